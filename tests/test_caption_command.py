"""``earwitness caption`` as it is typed: paths, sidecars, what is done before, and how it ends."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import Result
from conftest import REPOSITORY
from tiny_repository import make_repository
from typer.testing import CliRunner

from earwitness.captioning import CaptioningSystem
from earwitness.cli import app
from earwitness.sound_paths import named_sounds
from pipeline.errors import EarwitnessError

RATE = 16000
Caption = Callable[..., Result]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make_repository(root)
    return root


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six sounds, in folders; the current one is above them."""
    for number, name in enumerate(
        ["a.wav", "a.flac", "in/a.wav", "in/b.ogg", "in/deep/c.wav", "d.wav"]
    ):
        path = tmp_path / "rec" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, number)
    (tmp_path / "rec/notes.txt").write_text("not a sound")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "rec"


def write(path: Path, number: int, seconds: float = 0.0) -> None:
    at = np.arange(round(RATE * (seconds or 0.5 + 0.3 * number))) / RATE
    sound = 0.3 * np.sin(2 * np.pi * (200 + 700 * (number % 5) * at) * at)
    soundfile.write(path, sound, RATE, format="OGG" if path.suffix == ".ogg" else None)


@pytest.fixture
def caption(repository: Path) -> Caption:
    def run(*arguments: str, code: int = 0, given: bytes = b"") -> Result:
        options = ["--system", "three", "--repository", str(repository)]
        done = CliRunner().invoke(app, ["caption", *arguments, *options], input=given)
        assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
        return done

    return run


def texts(repository: Path, *paths: Path) -> list[str]:
    system = CaptioningSystem.load("three", root=repository, device="cpu")
    return [found.text for found in system.caption(paths)]


def rows(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as stream:
        return {row["file"]: row["caption"] for row in csv.DictReader(stream)}


ALL = ["rec/a.flac", "rec/a.wav", "rec/d.wav", "rec/in/a.wav", "rec/in/b.ogg", "rec/in/deep/c.wav"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["rec"], ALL),
        (["rec/**/*.wav"], [name for name in ALL if name.endswith("wav")]),
        (["rec/in/*"], ALL[3:]),
        (["rec/?.wav", "rec"], ["rec/a.wav", "rec/d.wav", "rec/a.flac", *ALL[3:]]),
        (["rec/[d]*"], ["rec/d.wav"]),
    ],
)
def test_paths(
    repository: Path, folder: Path, caption: Caption, given: list[str], found: list[str]
) -> None:
    lines = caption(*given, "--quiet").stdout.splitlines()
    expected = texts(repository, *map(Path, found))
    assert [line.split(maxsplit=1) for line in lines] == [
        [name, text] for name, text in zip(found, expected, strict=True)
    ]


def test_paths_without_sound_are_said(folder: Path, caption: Caption) -> None:
    (folder / "none").mkdir()
    done = caption("rec/x*.wav", "rec/none", "rec/a.wav", "rec/notes.txt", code=1)
    assert done.stdout.startswith("rec/a.wav ") and done.stdout.count("\n") == 1
    assert done.stderr.splitlines()[0] == "captioned 1, failed 3"
    for words in ("rec/x*.wav: no sound file has such a name", "rec/none: no sound files",
                  "rec/notes.txt: not sound that can be decoded"):  # fmt: skip
        assert sum(f"error: {words}" in line for line in done.stderr.splitlines()) == 1
    done = caption("rec/x*.wav", "--out", "x.csv", code=1)
    assert done.stdout == "" and not Path("x.csv").exists()
    assert caption("", code=1).stderr == "error: a path is empty; check what was given\n"
    star = folder / "x[1].wav"  # a name of its own, not a pattern
    shutil.copy(folder / "a.wav", star)
    assert caption(str(star)).stdout.startswith(str(star))


def test_standard_input(
    repository: Path, folder: Path, caption: Caption, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {*Path(os.environ.get("TMPDIR", "/tmp")).glob("earwitness-*")}
    (text,) = texts(repository, folder / "in/b.ogg")
    content = (folder / "in/b.ogg").read_bytes()
    assert caption("-", given=content).stdout == f"-  {text}\n"
    (found,) = json.loads(caption("-", "-f", "json", given=content).stdout)
    assert (found["file"], found["caption"]) == ("-", text)
    caption("-", "--output-dir", "out", given=content)
    assert Path("out/stdin.txt").read_text(encoding="utf-8") == f"{text}\n"
    assert not [*Path("out").glob("*state*")]  # it has no name by which it is known again
    assert "error: -: empty file (0 bytes)" in caption("-", code=1).stderr
    assert "error: -: not sound" in caption("-", given=b"no sound", code=1).stderr
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stdin", None)
        with pytest.raises(EarwitnessError, match="standard input is closed"), named_sounds(["-"]):
            pass
    assert "given twice" in caption("-", "-", given=content, code=1).stderr
    assert "beside standard input" in caption("-", "--sidecar", given=content, code=1).stderr
    assert {*Path(os.environ.get("TMPDIR", "/tmp")).glob("earwitness-*")} - before == set()


def test_sidecars_lie_beside_each_sound(repository: Path, folder: Path, caption: Caption) -> None:
    """Each has its sound's whole name, so that a.wav and a.flac have one each."""
    expected = dict(zip(ALL, texts(repository, *map(Path, ALL)), strict=True))
    caption("rec", "--sidecar", "-f", "srt")
    for name, text in expected.items():
        assert Path(f"{name}.srt").read_text(encoding="utf-8").splitlines()[2] == text
    caption("rec", "--sidecar")
    assert {name: Path(f"{name}.txt").read_text(encoding="utf-8") for name in ALL} == {
        name: f"{text}\n" for name, text in expected.items()
    }
    caption("rec", "--output-dir", "out", "-f", "json")
    written = {str(path.relative_to("out")) for path in Path("out").rglob("*.json")}
    assert written == {f"{name.removeprefix('rec/')}.json" for name in ALL}
    assert (
        json.loads(Path("out/in/a.wav.json").read_text(encoding="utf-8"))["caption"]
        == expected["rec/in/a.wav"]
    )
    caption("rec/a.wav", "rec/in", "--output-dir", "two")  # as typed, and by the folder's name
    names = {str(path.relative_to("two")) for path in Path("two").rglob("*.txt")}
    assert names == {"rec/a.wav.txt", "in/a.wav.txt", "in/b.ogg.txt", "in/deep/c.wav.txt"}


def test_nothing_of_others_is_written_over(folder: Path, caption: Caption) -> None:
    mine = folder / "a.wav.srt"
    mine.write_text("my own subtitles")
    done = caption("rec", "--sidecar", "-f", "srt", code=1)
    assert "captioned 5, failed 1" in done.stderr
    assert "rec/a.wav.srt: is there, and not from here" in done.stderr
    assert mine.read_text() == "my own subtitles"
    caption("rec", "--sidecar", "-f", "srt", "--again")
    assert mine.read_text() != "my own subtitles"
    here, there = Path("here/x/a.wav"), Path("there/x/a.wav")
    for path in (here, there):
        path.parent.mkdir(parents=True)
        shutil.copy(folder / "a.wav", path)
    given = [str(path.absolute()) for path in (here, there)]
    done = caption(*given, "--output-dir", "out", code=1)
    assert done.stderr.startswith(f"error: out/a.wav.txt: would be of {given[0]} and of {given[1]}")
    assert not Path("out").exists()
    done = caption("rec", "-f", "vtt", code=1)
    assert "vtt is of one sound, here are 6" in done.stderr
    assert "give one of them" in caption("rec", "--sidecar", "--output-dir", "x", code=1).stderr


def test_a_name_that_is_no_utf8(repository: Path, folder: Path, caption: Caption) -> None:
    """Right in each format, beside a file whose name looks the same; and known again."""
    latin, same = os.fsdecode(b"rec/lat\xe9.wav"), "rec/lat\\xe9.wav"
    for name, number in ((latin, 7), (same, 8)):
        write(folder / "new.wav", number)  # soundfile takes no such name
        (folder / "new.wav").rename(name)
    expected = texts(repository, Path(latin), Path(same))
    options = [latin, "--out", "x.csv", "--output-dir", "out", "-f"]
    for kind in ("csv", "json", "jsonl", "text", "srt"):
        done = caption(*options, kind)
        assert done.stdout in ("", f"{same}  {expected[0]}\n")
    caption(latin, same, "--out", "y.json")
    found = json.loads(Path("y.json").read_text(encoding="utf-8"))
    assert [(each["file"], each["caption"]) for each in found] == [
        (same, text) for text in expected
    ]
    assert {os.fsencode(path.name) for path in Path("out").rglob("*.srt")} == {b"lat\xe9.wav.srt"}
    assert caption(*options, "srt").stderr == "captioned 0, 1 done before\n"


def test_sidecars_of_another_kind_or_with_more_in_them(folder: Path, caption: Caption) -> None:
    """They are written from what is known; what a person corrected stays, and so do their notes."""
    notes = folder / "d.wav.txt"
    notes.write_text("my own notes")
    caption("rec", "--sidecar", "-f", "json")
    corrected = folder / "a.wav.json"
    corrected.write_text("{}")
    (folder / "in/b.ogg.json").unlink()
    assert caption("rec", "--sidecar", "-f", "json").stderr == "captioned 0, 6 done before\n"
    assert corrected.read_text(encoding="utf-8") == "{}"
    again = json.loads((folder / "in/b.ogg.json").read_text(encoding="utf-8"))
    done = caption("rec", "--sidecar", "-f", "json", "--candidates", "2")
    assert done.stderr == "captioned 0, 6 done before\n"
    more = json.loads((folder / "in/b.ogg.json").read_text(encoding="utf-8"))
    assert len(more.pop("candidates")) == 2 and more == again
    done = caption("rec", "--sidecar", code=1)
    assert done.stderr.startswith(
        "captioned 0, 5 done before, failed 1\nerror: rec/d.wav.txt: is th"
    )
    assert notes.read_text(encoding="utf-8") == "my own notes"
    assert (folder / "in/b.ogg.txt").read_text(encoding="utf-8") == f"{again['caption']}\n"


@pytest.mark.parametrize("options", [["--out", "x.csv"], ["--output-dir", "x", "-f", "jsonl"]])
def test_what_is_done_is_not_done_again(
    folder: Path, caption: Caption, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known by content where the date changed, and by any name; not by another search."""
    asked: list[str] = []
    whole = CaptioningSystem.caption_files

    def noted(self, files, **settings):  # type: ignore[no-untyped-def]
        asked.extend(map(str, files))
        return whole(self, files, **settings)

    monkeypatch.setattr(CaptioningSystem, "caption_files", noted)

    def again(*more: str) -> list[str]:
        asked.clear()
        caption("rec", *options, *more)
        return asked

    assert again() == ALL
    assert again() == []
    os.utime(folder / "d.wav")
    (folder / "in/b.ogg").rename(folder / "in/moved.ogg")
    assert again() == []
    write(folder / "d.wav", 9)
    write(folder / "new.wav", 10)
    assert again() == ["rec/d.wav", "rec/new.wav"]
    assert again("--windows", "fixed", "--window-seconds", "0.7") == [
        *ALL[:4], "rec/in/deep/c.wav", "rec/in/moved.ogg", "rec/new.wav"
    ]  # fmt: skip
    assert again() == []  # what was found by other settings is still known
    assert len(again("--again")) == 7


def test_a_table_is_of_this_runs_sounds(repository: Path, folder: Path, caption: Caption) -> None:
    done = caption("rec/in", "--out", "x.csv")
    assert "captioned 3" in done.stderr and len(rows(Path("x.csv"))) == 3
    done = caption("rec", "--out", "x.csv")
    assert done.stderr.splitlines()[0] == "captioned 3, 3 done before"
    assert rows(Path("x.csv")) == dict(zip(ALL, texts(repository, *map(Path, ALL)), strict=True))
    Path("x.csv").unlink()
    done = caption("rec", "--out", "x.csv", "--candidates", "2")  # all that is needed is known
    assert done.stderr.splitlines()[0] == "captioned 0, 6 done before"
    with Path("x.csv").open(encoding="utf-8", newline="") as stream:
        assert all(row["candidate_2"] for row in csv.DictReader(stream))


def test_another_model_is_another_caption(
    repository: Path, folder: Path, tmp_path: Path, caption: Caption
) -> None:
    """A system with the same name and settings whose encoder's weights are others."""
    root = tmp_path / "copy"
    shutil.copytree(repository, root)
    options = ["rec/a.wav", "--out", "x.csv", "--repository", str(root), "--system", "edtc"]

    def count() -> str:
        return CliRunner().invoke(app, ["caption", *options]).stderr.splitlines()[0]

    assert CliRunner().invoke(app, ["caption", *options]).exit_code == 0
    assert count() == "captioned 0, 1 done before"
    other = root / "data/models/captioners/edtc/1/model.safetensors"
    content = bytearray(other.read_bytes())
    content[-1] ^= 1
    other.write_bytes(content)
    assert CliRunner().invoke(app, ["caption", *options]).stderr == ""  # one, and not before
    assert count() == "captioned 0, 1 done before"
    encoder = root / "data/models/encoders/panns/model.safetensors"
    content = bytearray(encoder.read_bytes())
    content[-2] ^= 1
    encoder.write_bytes(content)
    assert CliRunner().invoke(app, ["caption", *options]).stderr == ""


def test_a_state_that_is_half_or_not_ours(folder: Path, caption: Caption) -> None:
    caption("rec", "--out", "x.jsonl")
    whole, state = Path("x.jsonl").read_bytes(), Path("x.jsonl.state.jsonl")
    lines = state.read_bytes().splitlines(keepends=True)
    assert len(lines) == 6
    for cut in (b"".join(lines[:3]) + lines[3][:50], lines[0][:5], b""):
        state.write_bytes(cut)
        Path("x.jsonl").unlink()
        caption("rec", "--out", "x.jsonl")
        assert Path("x.jsonl").read_bytes() == whole
        assert caption("rec", "--out", "x.jsonl").stderr == "captioned 0, 6 done before\n"
    for other in (b"file,caption\n", b"\xff\xfe", b"[]\n"):
        state.write_bytes(other)
        done = caption("rec", "--out", "x.jsonl", code=1)
        assert done.stderr.startswith(f"error: {Path.cwd()}/x.jsonl.state.jsonl: ")
        assert done.stderr.count("\n") == 1 and state.read_bytes() == other


def started(repository: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command, which halts for a minute when it has captioned three sounds."""
    typed = ["caption", *arguments, "--repository", str(repository), "--system", "three"]
    code = (
        "import sys, time\n"
        "from earwitness import captioning\n"
        "from earwitness.captions import runs\n"
        "add, done = runs.CaptionState.add, []\n"
        "def halting(self, *given):\n"
        "    add(self, *given)\n"
        "    done.append(1)\n"
        "    if len(done) == 3:\n"
        "        print('three', flush=True)\n"
        "        time.sleep(60)\n"
        "runs.CaptionState.add = halting\n"
        "from earwitness.cli import main\n"
        f"sys.argv[1:] = {typed}\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    while (line := process.stdout.readline()) and line != "three\n":
        pass
    return process


def test_a_killed_run_goes_on_to_the_same_file(
    repository: Path, folder: Path, caption: Caption
) -> None:
    caption("rec", "--out", "whole.json")
    process = started(repository, "rec", "--out", "x.json")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not Path("x.json").exists()
    assert "captioned 3, 3 done before" in caption("rec", "--out", "x.json").stderr
    assert Path("x.json").read_bytes() == Path("whole.json").read_bytes()


def test_ctrl_c_is_one_line_and_what_is_written_is_whole(
    repository: Path, folder: Path, caption: Caption
) -> None:
    caption("rec", "--output-dir", "whole", "-f", "srt")
    process = started(repository, "rec", "--output-dir", "x", "-f", "srt")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted: run it again to go on\n")
    whole = {path.relative_to("whole"): path.read_bytes() for path in Path("whole").rglob("*.srt")}
    found = {path.relative_to("x"): path.read_bytes() for path in Path("x").rglob("*.srt")}
    assert len(found) == 3 and found.items() < whole.items()
    assert "captioned 3, 3 done before" in caption("rec", "--output-dir", "x", "-f", "srt").stderr
    assert whole == {path.relative_to("x"): path.read_bytes() for path in Path("x").rglob("*.srt")}


def test_long_recordings(repository: Path, folder: Path, caption: Caption) -> None:
    write(folder / "long.wav", 3, 61.0)
    done = caption("rec/long.wav", "--out", "x.srt")
    assert done.stderr.startswith("note: 1 longer than a minute, captioned in windows")
    cues = Path("x.srt").read_text(encoding="utf-8").split("\n\n")
    times = re.findall(r"\d\d:(\d\d):(\d\d),(\d{3})", "".join(cues))
    seconds = [int(m) * 60 + int(s) + int(ms) / 1000 for m, s, ms in times]
    assert seconds[0] == 0 and seconds[-1] == 61 and seconds[1:-1:2] == seconds[2::2]
    text = caption("rec/long.wav").stdout.splitlines()
    assert len(text) == 1 + len(seconds) // 2
    assert [line.split("  ")[-1] for line in text[1:]] == [cue.splitlines()[2] for cue in cues[:-1]]
    (line,) = caption("rec/long.wav", "--windows", "none", "--quiet").stdout.splitlines()
    assert line == f"rec/long.wav  {texts(repository, folder / 'long.wav')[0]}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--windows", "silent"], "did you mean 'silence'"),
        (["--format", "xml"], "format: no 'xml'"),
        (["--windows", "fixed", "--hop-seconds", "20"], "a hop of 20 seconds"),
        (["--candidates", "9"], "candidates 9: this search finds 4"),
        (["--out", "rec"], "rec: cannot be written"),
    ],
)
def test_what_a_person_can_correct(
    folder: Path, caption: Caption, options: list[str], words: str
) -> None:
    done = caption("rec", *options, code=1)
    assert done.stdout == "" and done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1


def test_candidates_have_their_probability(
    repository: Path, folder: Path, caption: Caption
) -> None:
    (found,) = json.loads(caption("rec/d.wav", "-f", "json", "--candidates", "3").stdout)
    system = CaptioningSystem.load("three", root=repository, device="cpu")
    (expected,) = system.caption([folder / "d.wav"])
    everything = [(expected.text, expected.log_prob), *expected.candidates]
    assert [each["caption"] for each in found["candidates"]] == [t for t, _ in everything[:3]]
    values = np.array([value for _, value in everything])
    got = [
        [each[key] for each in found["candidates"]] for key in ("log_prob", "probability", "share")
    ]
    wanted = [values[:3], np.exp(values)[:3], (np.exp(values) / np.exp(values).sum())[:3]]
    np.testing.assert_allclose(got[0], wanted[0], atol=1e-3)
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-2)
    np.testing.assert_allclose(got[2], wanted[2], atol=1e-3)


def test_colours_are_for_a_terminal(
    repository: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real pseudo-terminal; and none of them with NO_COLOR."""
    seen = {}
    monkeypatch.setenv("TERM", "xterm")
    for name in ("terminal", "plain"):
        ours, theirs = pty.openpty()
        with os.fdopen(theirs, "w") as stdout, monkeypatch.context() as here:
            here.setattr(sys, "stdout", stdout)
            if name == "plain":
                here.setenv("NO_COLOR", "1")
            options = ["--system", "three", "--repository", str(repository), "--quiet"]
            app(["caption", "rec/a.wav", "rec/d.wav", *options], standalone_mode=False)
            stdout.flush()
            seen[name] = os.read(ours, 1 << 16)
        os.close(ours)
    assert b"\x1b[1mrec/a.wav\x1b[0m" in seen["terminal"] and b"\x1b" not in seen["plain"]
    assert re.sub(rb"\x1b\[\d*m", b"", seen["terminal"]) == seen["plain"]

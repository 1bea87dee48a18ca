"""The index of recordings: by content, as the system itself ranks, and never half of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
import torch
from click.testing import Result
from tones import PITCHES, RATE, Words, make_tones
from typer.testing import CliRunner

import earwitness
from earwitness.cli import app
from earwitness.index import pool
from earwitness.index.layout import FILE, FOLDER, read_index
from earwitness.index.origin import Origin
from earwitness.index.scoring import Query, combined
from earwitness.retrieval import RetrievalSystem
from pipeline.errors import EarwitnessError
from pipeline.lock import exclusive
from pipeline.state_dicts import read_weights, save_weights
from pipeline.trained import readers

OLD = time.time() - 1000


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make_tones(root)
    return root


@pytest.fixture
def repository(tones: Path, tmp_path: Path) -> Path:
    """A copy that a test may change; its sounds are not new any more."""
    root = tmp_path / "repository"
    shutil.copytree(tones, root)
    for path in (root / "sounds").rglob("*.*"):
        os.utime(path, (OLD, OLD))
    return root


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "build_text_encoder", lambda settings, device: Words())


def build(root: Path, *folders: Path, **options: Any) -> earwitness.IndexSummary:
    given = folders or (root / "sounds",)
    return earwitness.build_index(given, **{"root": root, "device": "cpu", **options})


def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a model that is loaded is a failure."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(Origin, "open", refuse)


def run(root: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(app, [*arguments, "--repository", str(root)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.mark.parametrize("system", ["one", "both", "mixed"])
def test_scores_are_those_of_the_system(repository: Path, system: str) -> None:
    """By the cosine, by the mean of two, and by a mean with minus the Euclidean distance."""
    build(repository, system=system)
    index = earwitness.open_index(repository / "sounds", root=repository, device="cpu")
    files = sorted((repository / "sounds").rglob("*.*"))
    files = [path for path in files if FOLDER not in path.parts]
    own = RetrievalSystem.load(system, root=repository, device="cpu")
    similar = own.similarity(own.embed_text(["low"]), own.embed_audio(files))[0]
    expected = sorted(zip(similar.tolist(), files, strict=True), reverse=True)
    hits = index.search("low", top=None)
    assert [hit.path for hit in hits] == [path for _, path in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [s for s, _ in expected], atol=1e-5)
    assert {str(path.relative_to(index.folder)) for path in files} == {*index.paths}
    assert [hit.path for hit in index.search("low", top=2)] == [p for _, p in expected[:2]]
    least = expected[1][0] - 1e-4
    assert len(index.search("low", min_score=least)) == 2


def test_a_sound_that_moved_or_was_copied_is_not_embedded_again(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = repository / "sounds"
    first = build(repository)
    assert (first.added, first.embedded, first.failed) == (5, 5, [])
    before = earwitness.open_index(sounds).similar(sounds / "a.wav", top=None)
    no_model(monkeypatch)
    again = build(repository)
    assert (again.unchanged, again.added, again.changed, again.gone) == (5, 0, 0, 0)
    (sounds / "a.wav").rename(sounds / "inner" / "moved.wav")
    shutil.copy(sounds / "e.wav", sounds / "copy.wav")
    (sounds / "c.flac").unlink()
    os.utime(sounds / "e.wav")  # touched, and the same
    done = build(repository)
    assert (done.added, done.gone, done.unchanged, done.embedded) == (2, 2, 3, 0)
    index = earwitness.open_index(sounds)
    assert {*index.paths} == {"inner/moved.wav", "inner/b.wav", "inner/d.wav", "e.wav", "copy.wav"}
    hits = index.similar(sounds / "inner/moved.wav", top=None)
    scores = {hit.path.name: hit.score for hit in hits}
    assert scores.pop("copy.wav") == scores["e.wav"]
    assert scores == {h.path.name: h.score for h in before if h.path.name != "c.flac"}


def test_content_that_changed_is_embedded_again(repository: Path) -> None:
    sounds = repository / "sounds"
    samples, _ = soundfile.read(sounds / "inner/d.wav")
    low = 0.3 * np.sin(2 * np.pi * 100 * np.arange(len(samples)) / RATE)
    soundfile.write(sounds / "inner/d.wav", samples, RATE)  # a moment ago
    build(repository)
    soundfile.write(sounds / "inner/d.wav", low, RATE)  # as many bytes, perhaps in the same tick
    done = build(repository)
    assert (done.changed, done.unchanged, done.embedded) == (1, 4, 1)
    index = earwitness.open_index(sounds, root=repository, device="cpu")
    assert index.search("low")[0].path == sounds / "inner/d.wav"


def test_a_run_that_was_killed_goes_on(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As kill -9 leaves it: two of five sounds are embedded; the index is that of one run."""
    monkeypatch.setattr(pool, "CHUNK", 1)
    whole = repository / "whole"
    build(repository, where=whole)
    code = (
        "import os, sys, earwitness\n"
        "from earwitness.index import pool, embedding\n"
        "pool.CHUNK, own, done = 1, embedding.embed, []\n"
        "def dying(*given):\n"
        "    done.append(1)\n"
        "    return own(*given) if len(done) < 3 else os.kill(os.getpid(), 9)\n"
        "embedding.embed = dying\n"
        "earwitness.build_index([sys.argv[1]], root=sys.argv[2], device='cpu')\n"
    )
    sounds = repository / "sounds"
    died = subprocess.run([sys.executable, "-c", code, sounds, repository], timeout=100)
    assert died.returncode == -9 and not (sounds / FOLDER / FILE).exists()
    left = sounds / FOLDER / f".{FILE}~99~x"  # of a run that was killed while it wrote
    left.write_bytes(b"half")
    done = build(repository)
    assert (done.added, done.embedded) == (5, 3)
    one, other = read_index(whole / FILE), read_index(sounds / FOLDER / FILE)
    rows = {p: one.entries.rows[e] for p, e in zip(one.files.paths, one.files.entry, strict=True)}
    for path, entry in zip(other.files.paths, other.files.entry, strict=True):
        np.testing.assert_array_equal(other.entries.rows[entry], rows[path])
    assert [path.name for path in (sounds / FOLDER).iterdir()] == [FILE]


def test_a_second_writer_is_refused(repository: Path) -> None:
    with (
        exclusive(repository / "sounds" / FOLDER / ".lock"),
        pytest.raises(EarwitnessError, match="is running already"),
    ):
        build(repository)


def test_a_system_that_changed_is_seen(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(repository)
    file = repository / "data/models/retrievers/pitch/1/model.safetensors"
    weights = read_weights(file, "")
    weights["sound_projection.weight"][0] = torch.linspace(1, -1, 32)  # low less high
    save_weights(weights, file)
    index = earwitness.open_index(repository / "sounds", root=repository, device="cpu")
    with pytest.raises(EarwitnessError, match="one changed since the index was made; run"):
        index.search("low")
    assert len(index.similar(repository / "sounds/a.wav")) == 4  # by what is stored
    lines: list[str] = []
    done = build(repository, notice=lines.append)
    assert (done.unchanged, done.embedded) == (5, 5)
    assert lines == ["the index was made before one changed; every sound is embedded again"]
    index = earwitness.open_index(repository / "sounds", root=repository, device="cpu")
    high = max(PITCHES, key=lambda name: PITCHES[name])
    assert index.search("low")[0].path.stem == high
    build(repository, system="both", notice=lines.append)
    assert lines[1].startswith("the index was made by one; ")
    no_model(monkeypatch)
    assert build(repository).embedded == 0  # without a name, the index's own system


def test_other_models_and_another_order_are_another_origin() -> None:
    """Models on a hub have no files here; an ensemble's embeddings lie in its members' order."""
    first = {"a/model": (1, 1, "x"), "b/model": (1, 2, "y")}
    last = dict(reversed(first.items()))
    one = Origin("both", "", "", "/r", first)
    assert not one.same(Origin("both", "", "", "/r", last))
    assert one.same(Origin("alias", "", "", "/elsewhere", {**first, "a/model": (1, 9, "x")}))
    hub = Origin("", "laion/clap", "", "", {})
    assert hub.same(hub) and not hub.same(Origin("", "other/clap", "", "", {}))
    file = {"model/.": (5, 5, "z")}
    assert Origin("", "/a.onnx", "", "", file).same(Origin("", "/moved.onnx", "", "", file))
    assert not Origin("", "/a.onnx", "", "", file).same(Origin("a", "", "", "", file))


def test_the_folder_can_be_moved(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(repository)
    away = repository / "elsewhere" / "renamed"
    away.parent.mkdir()
    (repository / "sounds").rename(away)
    index = earwitness.open_index(away, root=repository, device="cpu")
    assert index.folder == away
    assert index.search("low")[0].path == away / "a.wav"
    no_model(monkeypatch)
    assert build(repository, away).unchanged == 5


def test_an_index_elsewhere_is_of_all_its_folders(repository: Path, tmp_path: Path) -> None:
    sounds, place = repository / "sounds", tmp_path / "index"
    more = repository / "more"
    shutil.copytree(sounds / "inner", more)
    with pytest.raises(EarwitnessError, match="several folders: say where their index is to be"):
        build(repository, sounds, more)
    assert build(repository, sounds, more, where=place).files == 7
    hits = earwitness.open_index(place, root=repository, device="cpu").search("a high tone", top=2)
    assert {hit.path for hit in hits} == {sounds / "inner/d.wav", more / "d.wav"}
    with pytest.raises(EarwitnessError, match=f"the index of {more} too; name all its folders"):
        build(repository, sounds, where=place)
    shutil.rmtree(more)
    done = build(repository, sounds, where=place)
    assert (done.gone, done.embedded) == (7 - 5 + 5, 0)  # names are relative to another folder


def broken(path: Path) -> dict[str, Callable[[], object]]:
    """Ways to break an index."""

    def edit(change: Callable[[h5py.File], object]) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    def replace(file: h5py.File, name: str, value: Any) -> None:
        del file[name]
        file[name] = value

    def link(file: h5py.File) -> None:
        del file["rows"]
        file["rows"] = h5py.ExternalLink("other.h5", "rows")

    def leave(file: h5py.File) -> None:
        name = b"../../../../etc/passwd"
        replace(file, "names", np.frombuffer(name, np.uint8))
        replace(file, "name_ends", np.array([len(name)] * 5))

    def longer(file: h5py.File) -> None:
        """One window, of ten weeks: its curve would fill the memory."""
        width = file["rows"].shape[1]
        for name, value in {
            "counts": np.array([1, 0, 0, 0, 0]), "spans": np.array([[0, 6e6]], np.float32),
            "windows": np.ones((1, width), np.int8), "scales": np.ones(1, np.float32),
        }.items():  # fmt: skip
            replace(file, name, value)

    def header(file: h5py.File, change: Callable[[dict[str, Any]], object]) -> None:
        values = json.loads(file["header"][:].tobytes())
        change(values)
        replace(file, "header", np.frombuffer(json.dumps(values).encode(), np.uint8))

    return {
        "cut": lambda: os.truncate(path, path.stat().st_size // 2),
        "text": lambda: path.write_bytes(b"no index\n"),
        "empty": lambda: path.write_bytes(b""),
        "foreign": lambda: edit(lambda file: file.pop("header")),
        "newer": lambda: edit(lambda f: header(f, lambda values: values.update(version=99))),
        "linked": lambda: edit(link),
        "leaves": lambda: edit(leave),
        "entries": lambda: edit(lambda f: replace(f, "entry", np.arange(5) + 1)),
        "shapes": lambda: edit(lambda f: replace(f, "rows", np.zeros((5, 3), np.float32))),
        "measure": lambda: edit(
            lambda f: header(f, lambda values: values.update(members=[[8, "guess"]]))
        ),
        "long": lambda: edit(longer),
        "huge": lambda: edit(lambda f: replace(f, "counts", np.full(5, 1 << 60))),
    }


@pytest.mark.parametrize("way", [*broken(Path())])
def test_a_broken_index_is_one_line(repository: Path, way: str) -> None:
    place = repository / "sounds" / FOLDER
    build(repository)
    broken(place / FILE)[way]()
    for arguments in (["index", str(place.parent)], ["search", "low", "--in", str(place)]):
        done = run(repository, *arguments)
        (line,) = done.stderr.splitlines()
        assert done.exit_code == 1 and done.stdout == ""
        assert line.startswith(f"error: {place / FILE}: damaged, or no index (")
        assert line.endswith("; delete it and run `earwitness index` again")


def test_mistakes_are_one_line(repository: Path, tmp_path: Path) -> None:
    sounds = str(repository / "sounds")
    empty = tmp_path / "empty"
    empty.mkdir()
    build(repository)
    mistakes = {
        ("index", str(empty)): "no sound files in this folder",
        ("index", f"{sounds}/a.wav"): "a file; give a folder of sound files",
        ("index", f"{sounds}/gone"): "not there; give a folder of sound files",
        ("index", sounds, "--index", f"{sounds}/a.wav"): "no index can be written here",
        ("index", sounds, "--labels", "x.csv"): "labels are of a tagger",
        ("search", "low", "--in", str(empty)): "no index in this folder",
        ("search", "low"): "nowhere to search",
        ("search", "--in", sounds): "nothing to search for",
        ("search", "low", sounds, "--in", sounds): "files and --in are two places",
        ("search", "low", "--in", sounds, "--system", "one"): "the system that made it",
        ("search", "low", "--in", sounds, "--moments"): "the index has no moments; run",
        ("search", "low", "--in", sounds, "--format", "xml"): "no format 'xml'",
        ("search", " ", "--in", sounds): "is empty; say what to search for",
        ("search", "low", "--in", sounds, "--like", f"{sounds}/no.wav"): "no.wav: not there",
    }
    for arguments, message in mistakes.items():
        done = run(repository, *arguments)
        (line,) = done.stderr.splitlines()
        assert (done.exit_code, done.stdout) == (1, ""), arguments
        assert message in line, line
    assert not [*empty.iterdir()]


def test_bad_files_are_listed_and_the_rest_is_searched(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = repository / "sounds"
    good = (sounds / "a.wav").read_bytes()
    (sounds / os.fsdecode(b"lat\xe9.wav")).write_bytes(good + b"\0" * 2)
    (sounds / "broken.wav").write_bytes(good[:3000])
    sounds = sounds.rename(repository / os.fsdecode(b"\xe9t\xe9"))
    done = run(repository, "index", str(sounds))
    (line,) = done.stderr.splitlines()
    assert done.exit_code == 1 and "broken.wav: truncated WAV" in line
    assert "6 files (6 added, 0 changed, 0 gone, 0 as before)" in done.stdout
    found = run(repository, "search", "low", "--in", str(sounds), "--top", "2")
    assert found.exit_code == 0
    assert {line.rsplit("/")[-1] for line in found.stdout.splitlines()} == {"a.wav", "lat\\xe9.wav"}
    no_model(monkeypatch)  # the bad one is looked at again, and costs no model
    again = run(repository, "index", str(sounds))
    assert again.exit_code == 1 and again.stderr.splitlines() == [line]


def test_texts_and_sounds_are_combined_as_is_written() -> None:
    draw = np.random.default_rng(0)
    scores = {name: draw.normal(2, 3, 50).astype(np.float32) for name in "abcd"}
    queries = {name: Query(np.array([ord(name)], np.float32), False) for name in "abcd"}
    a, b, c, d = queries.values()

    def score(query: Query) -> Any:
        return scores[chr(int(query.row[0]))]

    z = {name: (own - own.mean()) / own.std() for name, own in scores.items()}
    np.testing.assert_array_equal(combined(score, [a], []), scores["a"])
    expected = (z["a"] + z["b"]) / 2
    np.testing.assert_allclose(combined(score, [a, b], []), expected, atol=1e-5)
    expected = z["a"] - (np.maximum(z["c"], 0) + np.maximum(z["d"], 0)) / 2
    np.testing.assert_allclose(combined(score, [a], [c, d]), expected, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_tables_are_aligned_whatever_the_header(repository: Path, length: int) -> None:
    """Else NumPy copies all rows before each product: 200 ms and not 30 of 100,000."""
    folder = (repository / "sounds").rename(repository / ("s" * length))
    place = repository / ("i" * length)
    build(repository, folder, where=place, moments=True)
    with h5py.File(place / FILE) as file:
        offsets = {name: file[name].id.get_offset() for name in file}
    assert {name for name, offset in offsets.items() if offset % 64} == set()
    assert read_index(place / FILE).entries.rows.flags.aligned


def test_not_and_like(repository: Path) -> None:
    """High tones but not the highest; what is like the lowest, by a file that is not indexed."""
    sounds = repository / "sounds"
    away = repository / "query.flac"
    time = np.arange(RATE) / RATE
    soundfile.write(away, 0.2 * np.sin(2 * np.pi * 320 * time), RATE)
    build(repository)
    index = earwitness.open_index(sounds, root=repository, device="cpu")
    names = sorted(PITCHES, key=lambda name: PITCHES[name])
    assert [hit.path.stem for hit in index.search(like=away, top=None)] == names
    assert [hit.path.stem for hit in index.similar(away, top=2)] == names[:2]
    plain = {hit.path: hit.score for hit in index.search("high", top=None)}
    values = np.array([*plain.values()])
    hits = index.search("high", without=["low"], top=None)
    for hit in hits:  # the two texts are opposites here
        z = (plain[hit.path] - values.mean()) / values.std()
        assert hit.score == pytest.approx(z - max(-z, 0), abs=1e-4)


def test_nothing_is_loaded_for_a_sound_of_the_index(repository: Path) -> None:
    """No torch, in a process of its own; and what is listed is the stored embeddings' cosine."""
    build(repository)
    sounds = repository / "sounds"
    code = (
        "import sys, json, earwitness\n"
        "index = earwitness.open_index(sys.argv[1])\n"
        "hits = index.similar(sys.argv[1] + '/e.wav', top=None)\n"
        "assert 'torch' not in sys.modules\n"
        "print(json.dumps([[str(hit.path), hit.score, hit.duration] for hit in hits]))\n"
    )
    out = subprocess.run([sys.executable, "-c", code, sounds], capture_output=True, text=True)
    found = {Path(path): (score, seconds) for path, score, seconds in json.loads(out.stdout)}
    own = RetrievalSystem.load("one", root=repository, device="cpu")
    query, *rows = own.embed_audio([sounds / "e.wav", *found])
    assert sounds / "e.wav" not in found and len(found) == 4
    for (path, (score, seconds)), row in zip(found.items(), rows, strict=True):
        assert score == pytest.approx(float(query @ row), abs=1e-5)
        assert seconds == pytest.approx(soundfile.info(path).duration, abs=1e-3)


def test_results_as_json_csv_and_lines(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(repository)
    monkeypatch.chdir(repository)
    names = ["sounds/a.wav", "sounds/c.flac"]
    found = run(repository, "search", "low", "--in", "sounds", "--top", "2", "--format", "json")
    rows = json.loads(found.stdout)
    assert [row["file"] for row in rows] == names
    assert rows[0]["score"] > rows[1]["score"]
    lines = run(repository, "search", "low", "--in", "sounds", "--top", "2", "--format", "jsonl")
    assert [json.loads(line) for line in lines.stdout.splitlines()] == rows
    out = repository / "found.csv"
    text = run(repository, "search", "low", "--in", "sounds", "--top", "2", "--out", str(out))
    assert [line.split("  ")[1] for line in text.stdout.splitlines()] == names
    header, *table = out.read_text(encoding="utf-8").splitlines()
    assert header == "file,score"
    assert [line.split(",")[0] for line in table] == names


def test_like_alone_searches_files_too(repository: Path) -> None:
    sounds = repository / "sounds"
    like = ["search", "--like", str(sounds / "a.wav")]
    done = run(repository, *like, str(sounds / "inner"), str(sounds / "c.flac"))
    assert [Path(line.split("  ")[1]).name for line in done.stdout.splitlines()] == [
        "c.flac", "b.wav", "d.wav",
    ]  # fmt: skip


def test_a_retriever_is_named_by_its_folder_and_a_repository_may_move(repository: Path) -> None:
    sounds = repository.parent / "sounds"
    (repository / "sounds").rename(sounds)
    folder = repository / "data/models/retrievers/pitch"
    assert earwitness.build_index([sounds], system=folder, device="cpu").embedded == 5
    lines: list[str] = []
    done = build(repository, sounds, system="one", notice=lines.append)
    assert (done.embedded, lines) == (0, [])  # it is the same retriever
    away = repository.rename(repository.with_name("away"))
    moved = earwitness.open_index(sounds, root=away, device="cpu")
    assert moved.search("low")[0].path == sounds / "a.wav"
    with pytest.raises(EarwitnessError, match="repository: not an earwitness repository"):
        earwitness.open_index(sounds, device="cpu").search("low")

"""Search of sound files: tones by their pitch, and the same scores as a dataset's features give."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import Result
from tones import PITCHES, RATE, Words, make_tones
from typer.testing import CliRunner

from earwitness import retrieval as searching
from earwitness.cli import app
from pipeline.config.plans import ExtractionPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.registry import build_sound_encoder
from pipeline.errors import EarwitnessError
from pipeline.features.extraction import extract
from pipeline.features.store import FeatureStore
from pipeline.trained import readers
from pipeline.trained.retriever import load_retriever


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make_tones(root)
    return root


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "build_text_encoder", lambda settings, device: Words())


def searched(root: Path, query: str, *files: str, system: str | None = None) -> Result:
    paths = [str(root / file) for file in files]
    options = ["--repository", str(root), "--out", str(root / "found.csv")]
    options += ["--system", system] if system else []
    done = CliRunner().invoke(app, ["search", query, *paths, *options])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def mistake(root: Path, query: str, system: str | None = None) -> str:
    """The one line that refuses a search."""
    done = searched(root, query, "sounds", system=system)
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def search(
    root: Path, query: str, *files: str, system: str | None = None
) -> tuple[list[tuple[Path, float]], list[str]]:
    """What the command line writes of every file, and its errors."""
    out = root / "found.csv"
    done = searched(root, query, *files, system=system)
    failed = [line.removeprefix("error: ") for line in done.stderr.splitlines()]
    assert done.exit_code == bool(failed)
    with out.open(encoding="utf-8") as stream:
        rows = [(Path(row["file"]), float(row["score"])) for row in csv.DictReader(stream)]
    assert [line.split("  ", 1)[1] for line in done.stdout.splitlines()] == [
        str(path) for path, _ in rows
    ]
    return rows, failed


@pytest.mark.parametrize("chunk", [2, 100])
def test_tones_are_found_by_their_pitch(
    repository: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "CHUNK", chunk)
    rising = sorted(PITCHES, key=lambda name: PITCHES[name])
    high, failed = search(repository, "a high tone", "sounds")
    low, _ = search(repository, "low", "sounds")
    assert [path.stem for path, _ in high] == rising[::-1]
    assert [path.stem for path, _ in low] == rising
    assert failed == []
    scores = [score for _, score in high]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == len(scores)


def test_scores_are_those_of_stored_features(repository: Path, tmp_path: Path) -> None:
    """A file that is searched is heard, window by window, as ``extract`` hears a dataset's."""
    plan = ExtractionPlan.load(repository / "data/plans/extraction/toy-logmel.json")
    files = sorted((repository / "sounds").rglob("*.*"))
    clips = tuple(
        Clip(path.stem, "evaluation", str(path.relative_to(repository)), 1.0, ("a",))
        for path in files
    )
    extract(
        Manifest("toy", ".", clips), repository, build_sound_encoder(plan.encoder, None), "", plan,
        tmp_path / "partial", tmp_path / "toy" / "logmel.h5",
    )  # fmt: skip
    store = FeatureStore.open(tmp_path / "toy" / "logmel.h5")
    scores = {}
    for name in ("pitch", "other", "far"):
        member = load_retriever(repository / "data/models/retrievers" / name / "1", "cpu")
        stored = member.sound.stored([store], [clip.clip_id for clip in clips])
        sound = member.embed_sound(stored)
        query = member.embed_text(member.text.queries(["so low"]))[0]
        distances = [-math.dist(one, query.tolist()) for one in sound.tolist()]
        scores[name] = torch.tensor(distances) if name == "far" else sound @ query
    for system, other in (("both", "other"), ("mixed", "far")):
        mean = ((scores["pitch"] + scores[other]) / 2).tolist()
        found, _ = search(repository, "so low", "sounds", system=system)
        assert dict(found) == pytest.approx(dict(zip(files, mean, strict=True)), abs=1e-4)


def test_what_is_no_sound_is_told_and_the_rest_is_found(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed" / ".hidden").mkdir(parents=True)
    sound = (repository / "sounds" / "a.wav").read_bytes()
    for name, content in {
        "mixed/good.WAV": sound, "mixed/broken.wav": sound[:3000], "mixed/notes.txt": b"x",
        "mixed/.hidden/b.wav": sound, "named.txt": b"no sound",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    names = ["empty", "mixed", "named.txt", "mixed/good.WAV", "gone.wav"]
    found, failed = search(repository, "low", *(str(tmp_path / name) for name in names))
    assert [path for path, _ in found] == [tmp_path / "mixed/good.WAV"]
    assert [Path(reason.split(":")[0]).name for reason in failed] == [
        "empty", "broken.wav", "named.txt", "gone.wav",
    ]  # fmt: skip
    assert all("\n" not in reason for reason in failed)


def test_every_sound_in_a_folder_is_found_or_told(repository: Path, tmp_path: Path) -> None:
    """Every container, linked folders once each, loops; what is no sound stays out."""
    samples, rate = soundfile.read(repository / "sounds" / "a.wav")
    kinds = {
        "a.w64": "W64", "b.caf": "CAF", "c.au": "AU", "d.aifc": "AIFF", "e.wave": "WAV",
        "f.rf64": "RF64", "g.aif": "AIFF", "h.OGG": "OGG", "i.snd": "AU",
    }  # fmt: skip
    folder, away = tmp_path / "found", tmp_path / "away"
    for place in (folder / "inner", away / "deep", folder / ".hidden"):
        place.mkdir(parents=True)
    for name, kind in kinds.items():
        soundfile.write(folder / name, samples, rate, format=kind)
    for name in ("._a.wav", "music.m4a", "cover.jpg", ".hidden/x.wav"):
        (folder / name).write_bytes(b"no sound")
    soundfile.write(away / "deep" / "z.wav", samples, rate)
    (folder / "a linked").symlink_to(away)
    (folder / "inner" / "again").symlink_to(away / "deep")
    (folder / "inner" / "loop").symlink_to(folder)
    (away / "loop").symlink_to(away)
    found, failed = search(repository, "low", str(folder))
    assert sorted(path.relative_to(folder).as_posix() for path, _ in found) == sorted(
        [*kinds, "a linked/deep/z.wav"]
    )
    scores = [score for path, score in found if path.suffix != ".OGG"]
    assert max(scores) - min(scores) < 1e-3
    assert [reason.split(": ")[0] for reason in failed] == [str(folder / "music.m4a")]


def test_one_bad_file_does_not_end_a_search(repository: Path, tmp_path: Path) -> None:
    good = (repository / "sounds" / "a.wav").read_bytes()
    contents = {b"lat\xe9.wav": good, b"plain.wav": good, b"bad\xff.wav": good[:999]}
    for name, content in contents.items():
        (tmp_path / os.fsdecode(name)).write_bytes(content)
    loud = np.array([0, 3e38], np.float32)
    soundfile.write(tmp_path / "loud.wav", loud, RATE, subtype="FLOAT")
    found, failed = search(repository, "low", str(tmp_path))
    names = {path.name: score for path, score in found}
    assert names.keys() == {"lat\\xe9.wav", "plain.wav"}
    assert names["lat\\xe9.wav"] == pytest.approx(names["plain.wav"], abs=1e-5)
    assert [reason.split(": ")[0].rpartition("/")[2] for reason in failed] == [
        "bad\\xff.wav", "loud.wav",
    ]  # fmt: skip


def test_what_is_too_long_is_told(repository: Path, tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "silence.flac", "w", 1000, 1) as file:
        for _ in range(20):
            file.write(np.zeros(1_000_000))
    found, (reason,) = search(repository, "low", str(tmp_path), "sounds")
    assert len(found) == len(PITCHES)
    assert reason.endswith("333.3 minutes long; at most 120 are read: cut it, or raise "
                           "longest_minutes")  # fmt: skip
    retriever = searching.RetrievalSystem.load("one", root=repository)
    with pytest.raises(EarwitnessError, match="at most 120 are read"):
        retriever.embed_audio([tmp_path / "silence.flac"])
    with pytest.raises(EarwitnessError, match=r"at most 0\.005 are read"):
        retriever.embed_audio([repository / "sounds" / "a.wav"], longest_minutes=0.005)


def test_mistakes_are_one_line(repository: Path) -> None:
    assert "texts[0] is empty" in mistake(repository, "  ")
    known = "no retrieval system 'bth'; did you mean 'both'?"
    assert known in mistake(repository, "low", system="bth")
    trained = repository / "data/models/retrievers/other/1"
    away = trained.rename(trained.with_name("away"))
    try:
        assert "no retriever; run `dvc repro" in mistake(repository, "low", system="both")
    finally:
        away.rename(trained)

"""Inputs outside the repository, under DVC itself: an edit runs again what reads it, and no more.

One small project with a dataset of every layout that reads files, and a text encoder by path. The
files lie in folders beside the repository, as a user's do.
"""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pytest
import soundfile
from onnx_models import tagger
from project import Project

from pipeline.config.datasets import WAVCAPS_TABLES, DatasetConfig
from pipeline.corpora.manifest import Manifest
from pipeline.files import sha256

PARAMS: dict[str, Any] = {
    "seeds": [1],
    "datasets": {
        "mine": {"layout": "clotho", "root": "../my data"},
        "own": {"layout": "folder", "root": "../own"},
        "caps": {"layout": "audiocaps", "root": "../caps"},
        "scenes": {"layout": "macs", "root": "../scenes"},
        "words": {"layout": "captions", "root": "../words", "development": "train.csv"},
        "wavcaps": {
            **{"layout": "wavcaps", "root": "../wavcaps", "sources": "SoundBible", "exclude": None},
            "validation_share": 0.5,
        },
        "shards": {"layout": "webdataset", "root": "../shards/{0..1}.tar"},
        "kinds": {"layout": "descriptions", "root": "../kinds", "table": "kinds.csv"},
        "blind": {
            **{"layout": "blind", "root": "../blind", "table": "set.csv", "queries": "asked.csv"},
        },
        "made": {
            "layout": "soundscapes",
            **{"development": 1, "validation": 1, "evaluation": 1, "seconds": [0.5, 0.6]},
        },
    },
    "encoders": {},
    "tagging": {"encoders": []},
    "bart": {"pretrained": "../bart"},
    "text_encoders": {"w2v": {"module": "word2vec", "weights": "../vectors.txt"}},
    **{key: {} for key in ("spaces", "retrievers", "adapted", "captioners", "finetuned")},
    "systems": {},
    **{key: [] for key in ("encoded", "test_sets", "retrieval_test_sets")},
}
READING = {f"prepare@{name}" for name in PARAMS["datasets"]}


def sound(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, 800)
    soundfile.write(path, noise, 8000)


def table(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def make_data(base: Path) -> None:
    for seed, split in enumerate(("development", "validation", "evaluation")):
        sound(base / "my data" / split / f"{split}.wav", seed)
        rows = [["file_name", "caption_1"], [f"{split}.wav", f"a dog in the {split}"]]
        table(base / "my data" / f"clotho_captions_{split}.csv", rows)
    for number in range(6):
        sound(base / "own" / "sound" / f"{number}.wav", 10 + number)
    rows = [["file_name", "caption"], *([f"{number}.wav", "a dog"] for number in range(6))]
    table(base / "own" / "captions.csv", rows)
    sound(base / "elsewhere" / "owl.wav", 5)
    sound(base / "caps" / "train" / "a.wav", 6)
    (base / "caps" / "train" / "owl.wav").symlink_to(base / "elsewhere" / "owl.wav")
    rows = [["file_name", "caption"], ["a.wav", "rain"], ["owl.wav", "an owl"]]
    table(base / "caps" / "train.csv", rows)
    sound(base / "scenes" / "audio" / "park.wav", 7)
    macs = "files:\n- filename: park.wav\n  annotations:\n  - sentence: birds sing\n"
    (base / "scenes" / "MACS.yaml").write_text(macs)
    table(base / "words" / "train.csv", [["file_name", "caption"], ["a.wav", "a dog"]])
    rows = [["label", "caption_1", "caption_2"], ["Dog", "a dog barks", "a dog barks at a car"]]
    table(base / "kinds" / "kinds.csv", rows)
    for number in range(8):
        sound(base / "wavcaps" / "SoundBible" / f"{number}.flac", number)
    (base / "wavcaps" / "json_files" / "SoundBible").mkdir(parents=True)
    bible = [{"id": f"{n}", "caption": "a dog barks", "duration": 0.1} for n in range(8)]
    (base / "wavcaps" / WAVCAPS_TABLES["SoundBible"]).write_text(json.dumps({"data": bible}))
    for number in range(2):
        shard(base / "shards" / f"{number}.tar", number, "a dog barks")
    for name in ("one", "two"):
        sound(base / "blind" / "sound" / f"{name}.wav", len(name))
    table(base / "blind" / "set.csv", [["file_name"], ["one.wav"]])
    table(base / "blind" / "asked.csv", [["caption"], ["a dog barks"]])
    (base / "bart").mkdir()
    (base / "bart" / "model.safetensors").write_bytes(b"old")
    (base / "vectors.txt").write_text("2 2\na 1 0\ndog 0 1\n")


def shard(path: Path, number: int, caption: str) -> None:
    """A tar of three clips."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key in (f"{number}{letter}" for letter in "abc"):
            sound(path.parent / f"{key}.wav", number)
            (path.parent / f"{key}.txt").write_text(caption)
            for suffix in (".wav", ".txt"):
                tar.add(path.parent / f"{key}{suffix}", f"{key}{suffix}")
                (path.parent / f"{key}{suffix}").unlink()


def put(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("stale")
    make_data(base)
    return base


@pytest.fixture(scope="module")
def project(base: Path) -> Project:
    """With all datasets prepared."""
    project = Project(base, PARAMS)
    assert project.run("repro", "prepare") == READING
    return project


def clips(project: Project, dataset: str) -> dict[str, Any]:
    path = project.root / "data" / "corpora" / f"{dataset}.json"
    return {clip.clip_id: clip for clip in Manifest.load(path).clips}


def fingerprints(project: Project) -> dict[str, bytes]:
    folder = project.root / "data" / "inputs"
    return {path.name: path.read_bytes() for path in folder.rglob("*.json")}


def test_the_project_has_every_layout() -> None:
    layouts = {
        get_args(each.model_fields["layout"].annotation)[0]
        for each in get_args(get_args(DatasetConfig)[0])
    }
    assert {each["layout"] for each in PARAMS["datasets"].values()} == layouts


def test_without_an_edit_only_the_look_runs(project: Project) -> None:
    before = fingerprints(project)
    shown = project.dvc("repro", "prepare")
    assert "nothing outside the repository changed" in shown
    assert shown.count("Running stage") == shown.count("Running stage 'look':") == 1
    assert fingerprints(project) == before
    assert json.loads(before["made.json"]) == {}  # nothing of it lies outside
    everything = b"".join(before.values()).decode()
    assert str(project.root.parent) not in everything
    assert "'prepare@mine' didn't change" in project.dvc("repro", "--dry", "prepare")
    assert project.dvc("status", "prepare").strip() in ("", "Data and pipelines are up to date.")


def test_edited_tables_are_read_again(project: Project, base: Path) -> None:
    put(base / "my data" / "clotho_captions_validation.csv", "dog", "cow")
    put(base / "words" / "train.csv", "a dog", "a cow")
    put(base / "kinds" / "kinds.csv", "a dog barks,", "a dog howls,")
    put(base / "own" / "captions.csv", "5.wav,a dog", "5.wav,a cow")
    put(base / "wavcaps" / WAVCAPS_TABLES["SoundBible"], "a dog", "a cow")
    shard(base / "shards" / "1.tar", 1, "a cow barks")
    put(base / "blind" / "set.csv", "one.wav", "two.wav")
    put(base / "blind" / "asked.csv", "a dog", "a cow")
    found = project.earwitness("why", "prepare@mine")
    assert found.stdout.splitlines() == [
        "prepare@mine runs again:",
        "    input ../my data/clotho_captions_validation.csv changed",
    ], found.stderr
    shown = project.dvc("repro", "prepare")
    assert "dataset mine: clotho_captions_validation.csv changed\n" in shown
    assert project.stages(shown) == {
        *("prepare@mine", "prepare@words", "prepare@kinds", "prepare@own", "prepare@blind"),
        *("prepare@wavcaps", "prepare@shards"),
    }
    assert clips(project, "mine")["validation"].captions == ("a cow in the validation",)
    assert clips(project, "words")["a"].captions == ("a cow",)
    assert "a dog howls" in {c for clip in clips(project, "kinds").values() for c in clip.captions}
    assert clips(project, "own")["5"].captions == ("a cow",)
    assert {clip.captions for clip in clips(project, "wavcaps").values()} == {("a cow barks",)}
    found_in = {clip.captions for clip in clips(project, "shards").values()}
    assert found_in == {("a dog barks",), ("a cow barks",)}
    sounds = {Path(clip.path).name for clip in clips(project, "blind").values() if clip.path}
    assert sounds == {"two.wav"}
    assert ("a cow barks",) in {clip.captions for clip in clips(project, "blind").values()}
    assert "up to date" in project.earwitness("why", "prepare@mine").stdout


def test_a_replaced_recording_and_a_new_one_are_read_again(project: Project, base: Path) -> None:
    """One behind a link, with the same size and, in the user's eyes, the same time."""
    owl = base / "elsewhere" / "owl.wav"
    before = owl.stat()
    sound(owl, 50)
    assert owl.stat().st_size == before.st_size
    with (base / "scenes" / "MACS.yaml").open("a") as stream:
        stream.write("- filename: new.wav\n  annotations:\n  - sentence: wind blows\n")
    sound(base / "scenes" / "audio" / "new.wav", 51)
    found = project.earwitness("why", "prepare@scenes").stdout
    assert "    input ../scenes/audio changed (1 → 2 files)\n" in found
    assert project.run("repro", "prepare") == {"prepare@caps", "prepare@scenes"}
    assert clips(project, "caps")["owl"].digest == sha256(owl)
    assert clips(project, "scenes")["new"].captions == ("wind blows",)
    assert project.run("repro", "prepare") == set()


def test_what_is_away_stays_as_it_was_and_what_is_lost_is_named(
    project: Project, base: Path
) -> None:
    """A whole root that is gone is a disk that is not mounted; a part of it is an edit."""
    (base / "caps").rename(base / "away")
    done = project.try_dvc("repro", "prepare")
    assert done.returncode == 0 and "prepare@caps' didn't change" in done.stdout
    assert done.stderr.count("warning: dataset caps: none of its files are there") == 1
    (base / "away").rename(base / "caps")
    (base / "words" / "train.csv").rename(base / "lost.csv")
    (base / "caps" / "train.csv").rename(base / "lost too.csv")
    done = project.try_dvc("repro", "prepare@caps")
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: dataset caps: no train.csv, val.csv or test.csv in ")
    (base / "lost.csv").rename(base / "words" / "train.csv")
    (base / "lost too.csv").rename(base / "caps" / "train.csv")
    assert project.run("repro", "prepare") == set()


def test_replaced_weights_are_read_again(project: Project, base: Path) -> None:
    project.edit_params({"datasets": {"words": PARAMS["datasets"]["words"]}})
    plan, job = "plan@extraction", "embed@words-w2v"
    assert {plan, job} <= project.run("repro", "embed")
    assert not (project.root / "data" / "inputs" / "datasets" / "mine.json").exists()
    assert project.run("repro", "embed") == set()
    vectors, stored = base / "vectors.txt", project.root / "data/features/words/w2v.h5"
    put(vectors, "a 1 0", "a 0 3")
    assert "    input weights ../vectors.txt changed" in project.earwitness("why", job).stdout
    assert project.run("repro", "embed") == {plan, job}
    with h5py.File(stored) as file:
        assert file["values"][:].tolist() == [[0, 3]]  # of "a cow": of "a", as cow has none
    vectors.touch()  # content is what counts
    (base / "bart" / "model.safetensors").write_bytes(b"new")  # which no job reads here
    shown = project.dvc("repro", "embed")
    assert "weights ../bart changed\n" in shown and "weights ../vectors" not in shown
    assert project.stages(shown) == {plan}


def test_replaced_labels_are_read_again(project: Project, base: Path) -> None:
    """By what has classes; and labels that do not fit stop it in one line."""
    tagger(base / "tagger.onnx")
    labels = base / "names.txt"
    labels.write_text("dog\nrain\nbell\nhorn\n")
    model = {"module": "onnx", "weights": "../tagger.onnx", "labels": "../names.txt"}
    encoders = {
        "embedding": {**model, "embedding": "pooled"},
        "tags": {**model, "output": "probabilities", "activation": "sigmoid"},
    }
    datasets = {"mine": PARAMS["datasets"]["mine"]}
    project.edit_params({"datasets": datasets, "text_encoders": {}, "encoders": encoders})
    plan, job = "plan@extraction", "extract@mine-tags"
    assert {plan, job, "extract@mine-embedding"} <= project.run("repro", "extract")
    assert project.run("repro", "extract") == set()
    with h5py.File(project.root / "data/features/mine/tags.h5") as file:
        assert file["values"].shape == (3, 4) and (file["values"][:] > 0).all()
    put(labels, "horn", "owl")
    assert project.run("repro", "extract") == {plan, job}
    put(labels, "owl\n", "")
    done = project.try_dvc("repro", "extract")
    line = "error: ../names.txt: names 3 classes, but ../tagger.onnx has 4; give its own labels"
    assert done.returncode and line in done.stdout + done.stderr

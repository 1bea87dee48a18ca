"""Ranking with systems of retrievers: scores and files against slow, obvious ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_retrievers import save_features, save_retriever

from pipeline.config.plans import RankingPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.features.store import caption_id
from pipeline.metrics import retrieval
from pipeline.state_dicts import read_weights
from pipeline.trained.ranking import file_names, first_clips, rank
from stages import rank as stage

CAPTIONS = (3, 1, 0, 5, 2, 4, 1, 5, 5, 2, 3, 1, 7)  # of each clip of the evaluation split
WIDTHS = {"one": 6, "two": 9, "words": 8}
MEMBERS = {"narrow": (["one"], 12), "wide": (["two", "one"], 20)}  # features, D


def make_manifest() -> Manifest:
    clips = []
    for split, counts in (("development", (2, 1, 2)), ("evaluation", CAPTIONS)):
        for number, count in enumerate(counts):
            name = f"{split}-{number}"
            captions = tuple(f"{name}, said {k}" for k in range(count))
            clips.append(Clip(name, split, f"{split}/{name}.wav", 1.0, captions))
    return Manifest("toy", "audio", tuple(clips))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """Two retrievers of different widths and features, and a dataset's features."""
    root = tmp_path_factory.mktemp("repository")
    manifest = make_manifest()
    manifest.save(root / "data/corpora/toy.json")
    names = [clip.clip_id for clip in manifest.clips]
    captions = [caption_id(c.clip_id, k) for c in manifest.clips for k in range(len(c.captions))]
    for feature, width in WIDTHS.items():
        ids = captions if feature == "words" else names
        save_features(root / f"data/features/toy/{feature}.h5", ids, width)
    for name, (features, width) in MEMBERS.items():
        own = [WIDTHS[feature] for feature in features]
        save_retriever(root, name, features, own, WIDTHS["words"], width)
    return root, manifest


def make_plan(**systems: tuple[str, ...]) -> RankingPlan:
    seeds = dict.fromkeys(systems, (1,))
    return RankingPlan(
        name="toy", inputs={}, code={}, split="evaluation", systems=systems, seeds=seeds
    )


def ranked(
    repository: tuple[Path, Manifest], output: Path, plan: RankingPlan
) -> dict[str, dict[str, float]]:
    root, manifest = repository
    return rank(
        plan,
        manifest,
        retrievers=root / "data/models/retrievers",
        features=root / "data/features/toy",
        predictions=root / "data/predictions/toy",
        rankings=output / "rankings",
        metrics=output / "metrics",
        device="cpu",
    )


def normed(frames: NDArray[np.float16]) -> NDArray[np.float64]:
    mean = frames.astype(np.float64).mean(axis=0)
    return (mean - mean.mean()) / np.sqrt(mean.var() + 1e-5)


def similarity(root: Path, manifest: Manifest, member: str) -> NDArray[np.float64]:
    """(M, N) cosines, pair by pair, from the files' values and the saved weights."""
    weights = read_weights(root / f"data/models/retrievers/{member}/1/model.safetensors", "")
    numbers = {name: value.double().numpy() for name, value in weights.items()}
    again = {
        feature: dict(
            zip(
                [c.clip_id for c in manifest.clips],
                save_features(root / f"again/{feature}.h5", [c.clip_id for c in manifest.clips], w),
                strict=True,
            )
        )
        for feature, w in WIDTHS.items()
        if feature != "words"
    }
    ids = [caption_id(c.clip_id, k) for c in manifest.clips for k in range(len(c.captions))]
    words = dict(zip(ids, save_features(root / "again/words.h5", ids, 8), strict=True))

    def projected(side: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        out = numbers[f"{side}_projection.weight"] @ values + numbers[f"{side}_projection.bias"]
        return np.asarray(out / np.linalg.norm(out))

    clips = manifest.split("evaluation")
    sounds = [
        projected(
            "sound", np.concatenate([normed(again[f][c.clip_id]) for f in MEMBERS[member][0]])
        )
        for c in clips
    ]
    texts = [
        projected("text", normed(words[caption_id(c.clip_id, k)]))
        for c in clips
        for k in range(len(c.captions))
    ]
    return np.array([[float(text @ sound) for sound in sounds] for text in texts])


def test_scores_and_rankings_are_those_of_the_obvious_way(
    repository: tuple[Path, Manifest], tmp_path: Path
) -> None:
    root, manifest = repository
    systems = {"narrow": ("narrow",), "both": ("narrow", "wide")}
    found = ranked(repository, tmp_path, make_plan(**systems))
    clips = manifest.split("evaluation")
    owner = [at for at, clip in enumerate(clips) for _ in clip.captions]
    texts = [caption for clip in clips for caption in clip.captions]
    for system, members in systems.items():
        mean = np.mean([similarity(root, manifest, member) for member in members], axis=0)
        expected = retrieval.ranking_scores(torch.from_numpy(mean), torch.tensor(owner))
        assert found[system] == pytest.approx(expected)
        written = json.loads((tmp_path / f"metrics/{system}.json").read_text())
        assert written.pop("N") == len(clips) and written.pop("captions") == len(texts)
        assert written == pytest.approx(expected, abs=1e-6)
        with (tmp_path / f"rankings/{system}.csv").open(newline="") as stream:
            rows = list(csv.reader(stream))
        assert rows[0] == ["caption", *(f"fname_{n}" for n in range(1, 11)), "rank"]
        for text, values, right, row in zip(texts, mean, owner, rows[1:], strict=True):
            order = np.argsort(-values).tolist()
            names = [f"evaluation-{at}.wav" for at in order]
            assert row == [text, *names[:10], str(order.index(right) + 1)]


def test_an_ensemble_of_one_retriever_is_that_retriever(
    repository: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ranked(repository, tmp_path / "whole", make_plan(a=("wide",), b=("wide", "wide")))
    assert whole["a"] == whole["b"]
    monkeypatch.setattr(retrieval, "BLOCK", 30)
    monkeypatch.setattr(retrieval, "WHOLE", 0)
    blocks = ranked(repository, tmp_path / "blocks", make_plan(a=("wide",), b=("wide", "wide")))
    assert blocks == whole
    for system in "ab":
        name = f"rankings/{system}.csv"
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "blocks" / name).read_text()


def test_files_of_removed_systems_are_deleted(
    repository: tuple[Path, Manifest], tmp_path: Path
) -> None:
    ranked(repository, tmp_path, make_plan(old=("narrow",), kept=("wide",)))
    ranked(repository, tmp_path, make_plan(kept=("wide",)))
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == [
        "kept.csv", "kept.json", "yardstick_chance.json",
    ]  # fmt: skip


def test_missing_retrievers_and_captions_are_one_line(
    repository: tuple[Path, Manifest], tmp_path: Path
) -> None:
    with pytest.raises(
        EarwitnessError, match="absent/1: no retriever; run `dvc repro make_space train_retriever"
    ):
        ranked(repository, tmp_path, make_plan(good=("narrow",), bad=("wide", "absent")))
    silent = tuple(Clip(f"e{n}", "evaluation", f"{n}.wav", 1.0, ()) for n in range(3))
    nothing = repository[0], Manifest("toy", "audio", silent)
    with pytest.raises(EarwitnessError, match="no clip of its split 'evaluation' has a caption"):
        ranked(nothing, tmp_path, make_plan(good=("narrow",)))
    assert not [*tmp_path.iterdir()]


def test_the_stage_prints_every_system_beside_chance(
    repository: tuple[Path, Manifest],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, _ = repository
    make_plan(both=("narrow", "wide")).save(root / "data/plans/systems/rank-toy.json")
    monkeypatch.chdir(root)
    stage.main("toy")
    scores = json.loads((root / "metrics/retrieval/toy/both.json").read_text())
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("both"))
    assert row.split()[4] == f"{100 * scores['t2a_map10']:.2f}"
    chance = next(line for line in lines if line.startswith("yardstick_chance"))
    assert chance.split()[1] == f"{100 / len(CAPTIONS):.2f}"
    assert (root / "data/rankings/toy/both.csv").is_file()


@pytest.mark.parametrize("clips", [1, 4, 10, 11, 30])
def test_a_right_clip_ranks_last_of_its_equals(clips: int) -> None:
    draw = torch.Generator().manual_seed(clips)
    values = torch.randint(4, (50, clips), generator=draw).float()
    owner = torch.randint(clips, (50,), generator=draw)
    ranks = retrieval.matrix_ranks(values, owner).clip
    found = first_clips(values.clone(), ranks, owner).tolist()
    for row, right, chosen in zip(values.tolist(), owner.tolist(), found, strict=True):
        expected = sorted(range(clips), key=lambda i: (-row[i], i == right))[:10]
        assert [row[i] for i in chosen] == [row[i] for i in expected]
        assert len(set(chosen)) == len(expected)
        assert [i == right for i in chosen] == [i == right for i in expected]


def test_names_that_occur_twice_keep_their_folders() -> None:
    clips = [
        Clip("a", "evaluation", "x/1.wav", 1.0, ()),
        Clip("b", "evaluation", "y/1.wav", 1.0, ()),
    ]
    assert file_names(clips[:1]) == ["1.wav"]
    assert file_names(clips) == ["x/1.wav", "y/1.wav"]

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
from pipeline.metrics.tables import ScoreFolders
from pipeline.state_dicts import read_weights
from pipeline.trained.ranking import file_names, rank
from pipeline.trained.ranking_files import first_clips
from stages import rank as stage

CAPTIONS = (3, 1, 0, 5, 2, 4, 1, 5, 5, 2, 3, 1, 7)  # of each clip of the evaluation split
WIDTHS = {"one": 6, "two": 9, "words": 8}
MEMBERS = {"narrow": (["one"], 12), "wide": (["two", "one"], 20)}  # features, D
SEEDS = (1, 2)


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
        for seed in SEEDS:
            save_retriever(root, name, features, own, WIDTHS["words"], width, seed)
    return root, manifest


def make_plan(seeds: tuple[int, ...] = (1,), **systems: tuple[str, ...]) -> RankingPlan:
    own = {"systems": systems, "seeds": dict.fromkeys(systems, seeds)}
    return RankingPlan(name="toy", inputs={}, code={}, split="evaluation", **own)


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
        folders=ScoreFolders(output / "metrics", output / "intervals", output / "rankings"),
        device="cpu",
    )[0]


def normed(frames: NDArray[np.float16]) -> NDArray[np.float64]:
    mean = frames.astype(np.float64).mean(axis=0)
    return (mean - mean.mean()) / np.sqrt(mean.var() + 1e-5)


def similarity(root: Path, manifest: Manifest, member: str) -> NDArray[np.float64]:
    """(M, N) cosines, pair by pair, from the files' values and the saved weights."""
    weights = read_weights(root / f"data/models/retrievers/{member}/model.safetensors", "")
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

    clips, (features, _) = manifest.split("evaluation"), MEMBERS[member.partition("/")[0]]
    sounds = [
        projected("sound", np.concatenate([normed(again[f][c.clip_id]) for f in features]))
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
        mean = np.mean([similarity(root, manifest, f"{member}/1") for member in members], axis=0)
        expected = retrieval.ranking_scores(torch.from_numpy(mean), torch.tensor(owner))
        assert found[system] == pytest.approx(expected, abs=1e-6)
        written = json.loads((tmp_path / f"metrics/{system}.json").read_text())
        assert written.pop("N") == len(clips) and written.pop("captions") == len(texts)
        assert written == pytest.approx(expected, abs=1e-6)
        with (tmp_path / f"rankings/{system}.csv").open(newline="") as stream:
            rows = list(csv.reader(stream))
        behind = ["rank", "caption_rank", "clip_id"]
        assert rows[0] == ["seed", "caption", *(f"fname_{n}" for n in range(1, 11)), *behind]
        for at, (text, values, right, row) in enumerate(
            zip(texts, mean, owner, rows[1:], strict=True)
        ):
            order = np.argsort(-values).tolist()
            names = [f"evaluation-{each}.wav" for each in order]
            back = np.argsort(-mean[:, right]).tolist().index(at) + 1
            rank = order.index(right) + 1
            assert row == ["1", text, *names[:10], str(rank), str(back), f"evaluation-{right}"]


def test_every_seed_is_ranked_and_the_mean_is_the_metric(
    repository: tuple[Path, Manifest], tmp_path: Path
) -> None:
    """An ensemble's members are all of the same seed."""
    root, manifest = repository
    plan = make_plan((2, 1), both=("narrow", "wide"), one=("wide",))
    found = ranked(repository, tmp_path, plan)
    clips = manifest.split("evaluation")
    owner = torch.tensor([at for at, clip in enumerate(clips) for _ in clip.captions])
    by_seed = {}
    for seed in SEEDS:
        each = [similarity(root, manifest, f"{name}/{seed}") for name in ("narrow", "wide")]
        mean = torch.from_numpy(np.mean(each, axis=0))
        by_seed[seed] = retrieval.ranking_scores(mean, owner)
    assert by_seed[1] != by_seed[2]
    expected = {name: (by_seed[1][name] + by_seed[2][name]) / 2 for name in by_seed[1]}
    assert found["both"] == pytest.approx(expected, abs=1e-6)
    around = json.loads((tmp_path / "intervals/both.json").read_text())
    assert (around["clips"], around["seeds"]) == (len(clips), [2, 1])
    assert set(around["metrics"]) == set(expected)
    own = around["metrics"]["t2a_map10"]
    values = [by_seed[seed]["t2a_map10"] for seed in SEEDS]
    assert own["by_seed"] == pytest.approx({"1": values[0], "2": values[1]}, abs=1e-6)
    assert own["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert 0 <= own["low"] < own["mean"] < own["high"] <= 1
    with (tmp_path / "rankings/both.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["seed"] for row in rows] == ["2"] * len(owner) + ["1"] * len(owner)
    ranks = [1 / rank if (rank := int(row["rank"])) <= 10 else 0 for row in rows[: len(owner)]]
    assert np.mean(ranks) == pytest.approx(values[1])
    with (tmp_path / "rankings/sound/both.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    texts = [caption for clip in clips for caption in clip.captions]
    assert [row["seed"] for row in rows] == ["2"] * len(clips) + ["1"] * len(clips)
    each = [similarity(root, manifest, f"{name}/2") for name in ("narrow", "wide")]
    for at, (row, values) in enumerate(zip(rows, np.mean(each, axis=0).T, strict=False)):
        order = np.argsort(-values)
        assert row["clip_id"] == clips[at].clip_id
        assert [row[f"caption_{k}"] for k in range(1, 11)] == [texts[k] for k in order[:10]]
        mine = np.flatnonzero(owner.numpy()[order] == at)
        assert row["rank"] == (str(mine[0] + 1) if len(mine) else "")
    chance = json.loads((tmp_path / "intervals/yardstick_chance.json").read_text())
    assert chance["seeds"] == [1] and chance["metrics"]["t2a_r1"]["low"] is None


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
        *["kept.csv"] * 2, *["kept.json"] * 2, *["yardstick_chance.json"] * 2,
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
    shown = [cell for cell in row.split() if not cell.startswith("±")]
    assert shown[4] == f"{100 * scores['t2a_map10']:.2f}"
    around = json.loads((root / "intervals/retrieval/toy/both.json").read_text())
    own = around["metrics"]["t2a_map10"]
    assert f"{shown[4]} ±{50 * (own['high'] - own['low']):.2f}" in row
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

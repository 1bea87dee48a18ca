"""What the report shows of attention, rankings and the modality gap: data against other ways."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from earwitness.attention import attention as of_sounds
from earwitness.captioning import CaptioningSystem
from earwitness.report import attention, retrieval, space
from earwitness.report.run import Run
from pipeline.config.params import with_settings
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore
from tests.report_views_run import CAPTIONED, FOUND, QUERIES, RANKS, models_run, ranked_run


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("models")
    (folder / "outside").mkdir()
    return models_run(folder / "run", folder / "outside")


@pytest.fixture
def ranked(tmp_path: Path) -> Run:
    return ranked_run(tmp_path / "run")


def unpacked(packed: dict[str, Any]) -> NDArray[np.float64]:
    values = np.frombuffer(base64.b64decode(packed["weights"]), np.uint8).astype(float)
    return values.reshape(packed["rows"], packed["columns"]) * packed["top"] / 255


def test_words_attend_as_the_servers_do(models: Run) -> None:
    """Which computes the features again, from the recording."""
    (found,) = attention.data(models)["datasets"]
    assert [system["name"] for system in found["systems"]] == ["fused", "alone", "three"]
    assert found["without"] == ["wsac"]  # a prefix attends to no time
    assert len(found["clips"]) == 3
    for system in found["systems"]:
        name = system["name"]
        loaded = CaptioningSystem.load(name, root=models.root, device="cpu")
        for clip, own in system["clips"].items():
            (expected,) = of_sounds(loaded, [models.root / f"sounds/{clip}.wav"], [CAPTIONED[name]])
            assert expected is not None and list(own["words"]) == list(expected.words)
            step = own["top"] / 255
            assert np.abs(unpacked(own) - expected.weights).max() < 0.02 + step


def test_fusers_weights_are_of_each_encoder(models: Run) -> None:
    (found,) = attention.data(models)["datasets"]
    ((key, own),) = found["captioners"].items()
    assert key.split("/")[0] == "fused" and own["features"] == ["logmel", "panns"]
    assert own["clips"].keys() == {*found["clips"]}
    for weights in own["clips"].values():
        assert unpacked(weights["share"]).sum(0) == pytest.approx(1, abs=0.01)
        assert unpacked(weights["read"]).sum(1) == pytest.approx(1, abs=0.02)
        assert unpacked(weights["encoder"]).shape == unpacked(weights["decoder"]).shape == (8, 8)


def test_the_same_run_gives_the_same_weights(models: Run) -> None:
    assert attention.data(models) == attention.data(models)


def test_no_clips_are_read_where_none_are_asked_for(models: Run) -> None:
    params = with_settings(models.params, {"report.attention_clips": 0}, "here")
    assert attention.data(Run(models.root, models.original, params)) is None


def test_a_captioner_that_cannot_be_opened_leaves_the_others(models: Run, tmp_path: Path) -> None:
    folder = models.root / "data/models/captioners/heard"
    (hidden := tmp_path / "heard").parent.mkdir(exist_ok=True)
    folder.rename(hidden)
    try:
        (found,) = attention.data(models)["datasets"]
    finally:
        hidden.rename(folder)
    assert [system["name"] for system in found["systems"]] == ["fused"]
    assert found["without"] == ["wsac"]
    assert [line.split(":")[0] for line in found["missing"]] == ["alone", "three"]
    assert all("heard" in line for line in found["missing"])


def test_clips_are_spread_from_most_to_least_disagreement(models: Run) -> None:
    """a: no word shared; b: all; c: half of the words."""
    one = {"a": "x y", "b": "dog barks", "c": "dog barks", "d": "only one has it"}
    other = {"a": "v w", "b": "dog barks", "c": "dog runs"}
    values = [attention.disagreement([one[clip], other[clip]]) for clip in "abc"]
    assert values == [1, 0, 0.5]
    order = ["b", "c", "a", "d"]
    assert attention.spread(order, [one, other], 2) == ["a", "b"]
    assert attention.spread(order, [one, other], 9) == ["a", "c", "b"]
    assert attention.spread(order, [], 9) == []


def test_rankings_come_back_with_the_right_clip_beyond_the_tenth(ranked: Run) -> None:
    (found,) = retrieval.data(ranked)["datasets"]
    assert [tuple(query) for query in found["queries"]] == [*zip(QUERIES, range(5), strict=True)]
    for system in found["systems"]:
        for seed, own in system["seeds"].items():
            ranks = np.frombuffer(base64.b64decode(own["rank"]), "<u4")
            back = np.frombuffer(base64.b64decode(own["caption_rank"]), "<u4")
            assert back.tolist() == [1, 2, 3, 4, 5]
            later = int(seed) - 1
            assert ranks.tolist() == [rank + later for rank in RANKS[system["name"]]]
            clips = np.frombuffer(base64.b64decode(own["clips"]), "<u4").reshape(5, own["places"])
            for query, (row, rank) in enumerate(zip(clips, ranks, strict=True)):
                assert len({*row.tolist()}) == 10 and row.max() < FOUND
                at = [*row.tolist()].index(query) + 1 if query in row else None
                assert at == (rank if rank <= 10 else None)


def test_rankings_of_other_queries_are_refused(ranked: Run) -> None:
    path = ranked.root / "data/rankings/toy/first.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("a bell rings", "two bells ring"), encoding="utf-8")
    with pytest.raises(EarwitnessError, match=r"first.csv: of other queries .*; run `dvc repro`"):
        retrieval.data(ranked)
    path.write_text(text.replace("clip-3.wav", "gone.wav"), encoding="utf-8")
    with pytest.raises(EarwitnessError, match=r"first.csv: 'gone.wav' is no clip"):
        retrieval.data(ranked)


def test_the_gap_is_what_loops_give(models: Run) -> None:
    (found,) = space.data(models)["spaces"]
    folder = models.root / "data/features/toy/tower"
    sound, text = (FeatureStore.open(folder / f"{side}.h5") for side in ("sound", "text"))

    def unit(store: FeatureStore, name: str) -> NDArray[np.float64]:
        row = store.entry(store.ids.index(name))[0].astype(float)
        return row / np.sqrt((row * row).sum())

    clips = ["1", "2", "3", "4"]
    heard, read = [unit(sound, c) for c in clips], [unit(text, f"{c}#0") for c in clips]
    shift = unit(sound, "0") - unit(text, "0#0")  # one clip is of the development split
    moved = [(row + shift) / np.linalg.norm(row + shift) for row in read]
    for way, captions in (("plain", read), ("shifted", moved)):
        pairs = [float(h @ c) for h, c in zip(heard, captions, strict=True)]
        others = [float(heard[i] @ captions[j]) for i in range(4) for j in range(4) if i != j]
        assert found[way]["pairs"] == pytest.approx(np.mean(pairs), abs=1e-3)
        assert found[way]["others"] == pytest.approx(np.mean(others), abs=1e-3)
        means = np.mean(heard, 0) - np.mean(captions, 0)
        assert found[way]["distance"] == pytest.approx(np.linalg.norm(means), abs=1e-3)
        both = np.concatenate([heard, captions])
        singular = np.linalg.svd(both - both.mean(0), compute_uv=False) ** 2
        assert found[way]["shares"] == pytest.approx(singular[:2] / singular.sum(), abs=1e-3)
    assert [clip for clip, _ in found["pairs"]] == clips


def test_the_plane_keeps_the_distances_of_a_flat_cloud() -> None:
    draw = np.random.default_rng(0)
    flat = draw.normal(size=(30, 2)) * (3, 1)
    turned = flat @ np.linalg.qr(draw.normal(size=(7, 7)))[0][:2]
    points, shares = space.plane(turned[:10], turned[10:])
    assert shares.sum() == pytest.approx(1) and shares[0] > shares[1]
    for rows in (points, flat):
        rows -= rows.mean(0)
    assert points @ points.T == pytest.approx(flat @ flat.T)

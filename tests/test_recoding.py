"""The trained retriever as an encoder, against its tower called clip by clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from retrieval_toy import FRAME_SECONDS, WIDTHS, TinyTower, make_data, make_plan, sound

from pipeline.config.encoders import LogmelEncoderConfig
from pipeline.config.plans import EncodingPlan
from pipeline.config.retrievers import PannsTowerConfig
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError
from pipeline.features.resumable import Parts
from pipeline.features.store import FeatureStore, Index
from pipeline.models.biencoder import BiEncoder, StoredMeans
from pipeline.models.towers.base import SoundTower
from pipeline.models.towers.registry import build_sound_tower
from pipeline.tensors import Padded
from pipeline.trained import encoding as recoding
from pipeline.trained.encoding import recode, recode_features
from pipeline.trained.retriever import TrainedRetriever

PLAN = EncodingPlan(name="tiny", inputs={}, code="", dataset="toy", feature="one")


def make_retriever(tower: SoundTower | None = None) -> TrainedRetriever:
    torch.manual_seed(0)
    plan = make_plan(tower=True)
    tower = tower or TinyTower()
    model = BiEncoder(tower, StoredMeans([WIDTHS["words"]]), plan.biencoder)
    with torch.no_grad():
        for buffer in model.buffers():  # statistics as training would leave them
            if buffer.is_floating_point():
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return TrainedRetriever(plan, model.eval(), None, (WIDTHS["one"],), WIDTHS["words"])


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("repository")
    return root, make_data(root)


def run(
    toy: tuple[Path, Manifest], retriever: TrainedRetriever, folder: Path, **changes: Any
) -> Index:
    root, manifest = toy
    (store,) = sound(root, "one")
    values = {"manifest": manifest, "store": store, "weights": "w", **changes}
    partial, path = folder / "partial", folder / "tiny.h5"
    index, report = recode(PLAN, retriever=retriever, partial=partial, path=path, **values)
    assert report.count <= len(store.lengths)
    return index


def alone(retriever: TrainedRetriever, entry: np.ndarray) -> np.ndarray:
    """(T, W) → (T', D): one clip with nothing beside it."""
    padded = Padded(torch.from_numpy(np.array(entry)).float()[None], torch.tensor([len(entry)]))
    with torch.no_grad():
        frames = retriever.tower([padded]).frames
    return frames.values[0, : int(frames.lengths)].half().numpy()


@pytest.mark.parametrize("size", [1 << 14, 50])
def test_every_entry_is_the_tower_on_that_clip(
    toy: tuple[Path, Manifest], tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both views of every clip, in the stored order, whatever shares a batch."""
    monkeypatch.setattr(recoding, "BATCH_FRAMES", {"cpu": size})
    retriever, (stored,) = make_retriever(), sound(toy[0], "one")
    index = run(toy, retriever, tmp_path)
    store = FeatureStore.open(tmp_path / "tiny.h5")
    assert store.ids == stored.ids and store.views == stored.views == 2
    assert store.header.frame_seconds == pytest.approx(2 * FRAME_SECONDS) == index.frame_seconds
    assert (store.header.encoder, store.header.weights, store.width) == ("tiny", "w", 16)
    assert not list((tmp_path / "partial").iterdir())
    for clip in range(len(store.ids)):
        for view in range(2):
            expected = alone(retriever, stored.entry(clip, view))
            found = store.entry(clip, view)
            assert found.shape == expected.shape == ((len(stored.entry(clip, view)) + 1) // 2, 16)
            np.testing.assert_allclose(found, expected, atol=2e-3, rtol=2e-3)
    arrays = [np.array(stored.entry(clip)) for clip in (5, 0, 77, 31)]
    for own, clip in zip(recode_features(arrays, retriever), (5, 0, 77, 31), strict=True):
        assert own.dtype == np.float16
        np.testing.assert_allclose(own, store.entry(clip), atol=2e-3, rtol=2e-3)


def test_a_real_tower(toy: tuple[Path, Manifest], tmp_path: Path) -> None:
    """CNN10 with random weights: its reduction is what the file says of time."""
    settings = PannsTowerConfig(
        module="panns", model="cnn10", channels=4, input="one", weights="scratch"
    )
    logmel = LogmelEncoderConfig(module="logmel", mels=WIDTHS["one"])
    torch.manual_seed(1)
    retriever = make_retriever(build_sound_tower(settings, logmel, None))
    run(toy, retriever, tmp_path)
    store, (stored,) = FeatureStore.open(tmp_path / "tiny.h5"), sound(toy[0], "one")
    assert store.header.frame_seconds == pytest.approx(FRAME_SECONDS * retriever.tower.reduction)
    for clip in range(0, len(store.ids), 10):
        expected = alone(retriever, stored.entry(clip))
        assert store.entry(clip).shape == expected.shape
        np.testing.assert_allclose(store.entry(clip), expected, atol=2e-3, rtol=2e-3)


class Killed(BaseException):
    """As a signal would be: nothing that the code catches."""


def test_a_killed_run_goes_on_to_the_same_bytes(
    toy: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recoding, "BATCH_FRAMES", {"cpu": 200})
    retriever = make_retriever()
    run(toy, retriever, tmp_path / "whole")
    save, saved = Parts.save, list[int]()

    def killed(self: Parts, part: int, *arrays: Any) -> None:
        if len(saved) in (6, 13):
            saved.append(-1)
            raise Killed
        save(self, part, *arrays)
        saved.append(part)

    monkeypatch.setattr(Parts, "save", killed)
    for _ in range(2):
        with pytest.raises(Killed):
            run(toy, retriever, tmp_path / "killed")
        assert not (tmp_path / "killed/tiny.h5").exists()
    run(toy, retriever, tmp_path / "killed")
    done = [part for part in saved if part >= 0]
    assert len(done) == len(set(done)) > 15  # nothing was done twice
    found = (tmp_path / "killed/tiny.h5").read_bytes()
    assert found == (tmp_path / "whole/tiny.h5").read_bytes()


def test_parts_of_other_weights_are_not_taken(
    toy: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Parts, "assemble", lambda *_: (_ for _ in ()).throw(Killed()))
        run(toy, make_retriever(), tmp_path)
    other = make_retriever()
    with torch.no_grad():
        other.tower.convolution.bias += 1  # type: ignore[operator, union-attr]
    first = run(toy, other, tmp_path, weights="v")
    fresh = run(toy, other, tmp_path / "fresh", weights="v")
    assert first.sha256 == fresh.sha256


def test_what_a_person_can_mend(toy: tuple[Path, Manifest], tmp_path: Path) -> None:
    root, manifest = toy
    retriever = make_retriever()
    frozen = replace(
        retriever,
        plan=make_plan(),
        model=BiEncoder(StoredMeans([24]), StoredMeans([12]), retriever.plan.biencoder),
    )
    broken = make_retriever()
    with torch.no_grad():
        broken.tower.convolution.weight *= 1e6  # type: ignore[operator, union-attr]
    fewer = replace(manifest, clips=manifest.clips[1:])
    for model, changes, message in (
        (frozen, {}, r"trains projections alone .* name its features \(one, two\)"),
        (retriever, {"store": sound(root, "two")[0]}, "two.h5: 10 wide, .* one, 24 wide"),
        (retriever, {"manifest": fewer}, "not the clips of dataset toy"),
        (broken, {}, "NaN or too large for float16"),
    ):
        with pytest.raises(EarwitnessError, match=message) as raised:
            run(toy, model, tmp_path, **changes)
        assert "\n" not in str(raised.value)
    with pytest.raises(EarwitnessError, match="these features: 3 wide"):
        recode_features([np.zeros((4, 3), np.float16)], retriever)
    assert recode_features([], retriever) == []

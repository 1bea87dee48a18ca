"""The trained retriever as an encoder: its tower clip by clip, and its space by numpy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from retrieval_toy import FRAME_SECONDS, WIDTHS, TinyTower, make_data, make_plan, sound, words

from pipeline.config.encoders import LogmelEncoderConfig
from pipeline.config.plans import EncodingPlan
from pipeline.config.retrievers import PannsTowerConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.features.resumable import Parts
from pipeline.features.store import FeatureStore, Header, Index
from pipeline.files import read_json
from pipeline.models.biencoder import BiEncoder, StoredMeans
from pipeline.models.towers.base import SoundTower
from pipeline.models.towers.registry import build_sound_tower
from pipeline.tensors import Padded
from pipeline.trained.encoding import encode, encode_frames
from pipeline.trained.readers import FeatureReader, new_text
from pipeline.trained.retriever import TrainedRetriever, load_retriever
from stages import encode as stage
from tests.tiny_retrievers import save_features, save_retriever

PLAN = EncodingPlan(name="tiny", inputs={}, code={}, dataset="toy", frames=True)
CPU = torch.device("cpu")


def make_retriever(tower: SoundTower | None = None) -> TrainedRetriever:
    torch.manual_seed(0)
    plan = make_plan(tower=True)
    tower = tower or TinyTower()
    model = BiEncoder(tower, StoredMeans([WIDTHS["words"]]), plan.biencoder)
    with torch.no_grad():
        for buffer in model.buffers():  # statistics as training would leave them
            if buffer.is_floating_point():
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    sound = FeatureReader("tiny", ("one",), (WIDTHS["one"],), CPU)
    return TrainedRetriever(plan, model.eval(), sound, new_text(plan, [], (WIDTHS["words"],), CPU))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("repository")
    return root, make_data(root)


def run(
    toy: tuple[Path, Manifest], retriever: TrainedRetriever, folder: Path, **changes: Any
) -> Index:
    root, manifest = toy
    (store,) = sound(root, "one")
    values = {"manifest": manifest, "stores": [store], "weights": "w", **changes}
    indexes, report = encode(
        PLAN,
        text=[words(root)],
        retriever=retriever,
        partial=folder / "partial",
        folder=folder / "tiny",
        **values,
    )
    assert report.count <= len(store.lengths) and list(indexes) == ["frames", "sound", "text"]
    return indexes["frames"]


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
    monkeypatch.setattr("pipeline.trained.inputs.BATCH_FRAMES", {"cpu": size})
    retriever, (stored,) = make_retriever(), sound(toy[0], "one")
    index = run(toy, retriever, tmp_path)
    store = FeatureStore.open(tmp_path / "tiny/frames.h5")
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
    for own, clip in zip(encode_frames(arrays, retriever), (5, 0, 77, 31), strict=True):
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
    store, (stored,) = FeatureStore.open(tmp_path / "tiny/frames.h5"), sound(toy[0], "one")
    assert store.header.frame_seconds == pytest.approx(FRAME_SECONDS * retriever.tower.reduction)
    for clip in range(0, len(store.ids), 10):
        expected = alone(retriever, stored.entry(clip))
        assert store.entry(clip).shape == expected.shape
        np.testing.assert_allclose(store.entry(clip), expected, atol=2e-3, rtol=2e-3)


class Killed(BaseException):
    """As a signal would be: nothing that the code catches."""


def test_a_killed_run_continues_to_the_same_bytes(
    toy: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.trained.inputs.BATCH_FRAMES", {"cpu": 200})
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
        assert not (tmp_path / "killed/tiny/frames.h5").exists()
    run(toy, retriever, tmp_path / "killed")
    done = [part for part in saved if part >= 0]
    assert len(done) == len(set(done)) > 15  # nothing was done twice
    found = (tmp_path / "killed/tiny/frames.h5").read_bytes()
    assert found == (tmp_path / "whole/tiny/frames.h5").read_bytes()


def test_parts_of_other_weights_are_not_used(
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


def test_errors_of_the_user(toy: tuple[Path, Manifest], tmp_path: Path) -> None:
    root, manifest = toy
    retriever = make_retriever()
    frozen = replace(
        retriever,
        plan=make_plan(),
        model=BiEncoder(StoredMeans([24]), StoredMeans([12]), retriever.plan.biencoder),
        sound=FeatureReader("tiny", ("one", "two"), (24, 10), CPU),
    )
    broken = make_retriever()
    with torch.no_grad():
        broken.tower.convolution.weight *= 1e6  # type: ignore[operator, union-attr]
    fewer = replace(manifest, clips=manifest.clips[1:])
    for model, changes, message in (
        (frozen, {}, r"trains projections alone .* name its features \(one, two\)"),
        (retriever, {"stores": sound(root, "two")}, "two.h5: 10 wide, .* one, 24 wide"),
        (retriever, {"manifest": fewer}, "not the clips of dataset toy"),
        (broken, {}, "NaN or too large for float16"),
    ):
        with pytest.raises(EarwitnessError, match=message) as raised:
            run(toy, model, tmp_path, **changes)
        assert "\n" not in str(raised.value)
    with pytest.raises(EarwitnessError, match="these features: 3 wide"):
        encode_frames([np.zeros((4, 3), np.float16)], retriever)
    assert encode_frames([], retriever) == []


SPACE, SPACE_TEXT, SPACE_WIDTH = (5, 7), 6, 8


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A retriever of two frozen features; a dataset with sound, and one of captions alone."""
    save_retriever(tmp_path, "mine", ("one", "two"), SPACE, SPACE_TEXT, SPACE_WIDTH)
    for name in ("heard", "words"):
        clips = tuple(
            Clip(f"{name}{i}", "development", f"{i}.wav" if name == "heard" else "", 1.0, captions)
            for i, captions in enumerate([("a", "b"), ("c",), ("d", "e", "f")])
        )
        Manifest(name, "audio", clips).save(tmp_path / f"data/corpora/{name}.json")
        sounding = [clip.clip_id for clip in clips if clip.path]
        folder = tmp_path / "data/features" / name
        for feature, width in zip(("one", "two"), SPACE, strict=True):
            if sounding:
                save_features(folder / f"{feature}.h5", sounding, width)
            else:
                write_none(folder / f"{feature}.h5", width)
        ids = [f"{clip.clip_id}#{k}" for clip in clips for k in range(len(clip.captions))]
        save_features(folder / "words.h5", ids, SPACE_TEXT)
        plan = EncodingPlan(name="mine", inputs={}, code={}, dataset=name, frames=False, seed=1)
        plan.save(tmp_path / f"data/plans/encoding/{name}-mine.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_none(path: Path, width: int) -> None:
    """What ``extract`` leaves of a dataset without sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Parts(path.parent / "none", [], width).assemble(path, Header(path.stem, {}, "0", 0.1), [])


def means(path: Path) -> torch.Tensor:
    """(N, W): each entry's mean, layer-normed, by numpy and a loop."""
    store = FeatureStore.open(path)
    rows = [store.entry(i).astype(np.float64).mean(0) for i in range(len(store.ids))]
    normed = [(row - row.mean()) / np.sqrt(row.var() + 1e-5) for row in rows]
    return torch.from_numpy(np.stack(normed)).float()


@torch.no_grad()
def test_both_sides_are_the_retrievers_embeddings(root: Path) -> None:
    stage.main("heard", "mine")
    folder = root / "data/features/heard"
    model = load_retriever(root / "data/models/retrievers/mine/1", "cpu").model
    joined = torch.cat([means(folder / "one.h5"), means(folder / "two.h5")], -1)
    expected = {
        "sound": F.normalize(model.sound_projection(joined), dim=-1),
        "text": F.normalize(model.text_projection(means(folder / "words.h5")), dim=-1),
    }
    for side, values in expected.items():
        store = FeatureStore.open(folder / f"mine/{side}.h5")
        np.testing.assert_allclose(store.values, values.numpy(), atol=2e-3)
        index = read_json(root / f"data/index/encoded/heard/mine/{side}.json", "")
        assert (index["width"], index["ids"]) == (SPACE_WIDTH, len(values))
    clips = [clip.clip_id for clip in Manifest.load(root / "data/corpora/heard.json").clips]
    assert not (folder / "mine/frames.h5").exists()
    assert list(FeatureStore.open(folder / "mine/sound.h5").ids) == clips
    text = FeatureStore.open(folder / "mine/text.h5")
    assert text.ids == ("heard0#0", "heard0#1", "heard1#0", "heard2#0", "heard2#1", "heard2#2")
    assert text.names(clips) == [f"{clip}#0" for clip in clips]
    assert text.names(["heard2#1"]) == ["heard2#1"]


def test_captions_need_no_sound(root: Path) -> None:
    stage.main("words", "mine")
    folder = root / "data/features/words"
    assert FeatureStore.open(folder / "mine/sound.h5").ids == ()
    assert len(FeatureStore.open(folder / "mine/text.h5").ids) == 6

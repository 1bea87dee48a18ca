"""A retriever of this pipeline as the CLAP: both sides of its space as feature files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.config.datasets import CaptionsDatasetConfig
from pipeline.config.plans import RepresentationPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.corpora.registry import prepare
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore
from pipeline.files import read_json
from pipeline.trained.retriever import load_retriever
from stages import represent
from tests.tiny_retrievers import save_features, save_retriever

WIDTHS, TEXT, WIDTH = (5, 7), 6, 8


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A retriever of two frozen features; a dataset with sound, and one of captions alone."""
    save_retriever(tmp_path, "mine", ("one", "two"), WIDTHS, TEXT, WIDTH)
    for name in ("heard", "words"):
        clips = tuple(
            Clip(f"{name}{i}", "development", f"{i}.wav" if name == "heard" else "", 1.0, captions)
            for i, captions in enumerate([("a", "b"), ("c",), ("d", "e", "f")])
        )
        Manifest(name, "audio", clips).save(tmp_path / f"data/corpora/{name}.json")
        sounding = [clip.clip_id for clip in clips if clip.path]
        folder = tmp_path / "data/features" / name
        for feature, width in zip(("one", "two"), WIDTHS, strict=True):
            if sounding:
                save_features(folder / f"{feature}.h5", sounding, width)
            else:
                write_none(folder / f"{feature}.h5", width)
        ids = [f"{clip.clip_id}#{k}" for clip in clips for k in range(len(clip.captions))]
        save_features(folder / "words.h5", ids, TEXT)
        plan = RepresentationPlan(
            name="mine", inputs={}, code="", dataset=name, features=("one", "two"),
            text_features="words",
        )  # fmt: skip
        plan.save(tmp_path / f"data/plans/retrievers/representing/{name}-mine.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_none(path: Path, width: int) -> None:
    """What ``extract`` leaves of a dataset without sound."""
    from pipeline.features.resumable import Parts
    from pipeline.features.store import Header

    path.parent.mkdir(parents=True, exist_ok=True)
    Parts(path.parent / "none", [], width).assemble(path, Header(path.stem, {}, "0", 0.1), [])


def means(path: Path) -> torch.Tensor:
    """(N, W): each entry's mean, layer-normed, by numpy and a loop."""
    store = FeatureStore.open(path)
    rows = [store.entry(i).astype(np.float64).mean(0) for i in range(len(store.ids))]
    normed = [(row - row.mean()) / np.sqrt(row.var() + 1e-5) for row in rows]
    return torch.from_numpy(np.stack(normed)).float()


@torch.no_grad()
def test_both_sides_are_the_retrievers_own_embeddings(root: Path) -> None:
    represent.main("heard", "mine")
    folder = root / "data/features/heard"
    model = load_retriever(root / "data/models/retrievers/mine", "cpu").model
    joined = torch.cat([means(folder / "one.h5"), means(folder / "two.h5")], -1)
    expected = {
        "sound": F.normalize(model.sound_projection(joined), dim=-1),
        "text": F.normalize(model.text_projection(means(folder / "words.h5")), dim=-1),
    }
    for side, values in expected.items():
        store = FeatureStore.open(folder / f"mine-{side}.h5", "represent")
        np.testing.assert_allclose(store.values, values.numpy(), atol=2e-3)
        index = read_json(root / f"data/index/encoded/heard/mine-{side}.json", "")
        assert (index["width"], index["ids"]) == (WIDTH, len(values))
    clips = [clip.clip_id for clip in Manifest.load(root / "data/corpora/heard.json").clips]
    sound = FeatureStore.open(folder / "mine-sound.h5", "represent")
    assert list(sound.ids) == clips
    text = FeatureStore.open(folder / "mine-text.h5", "represent")
    assert text.ids == ("heard0#0", "heard0#1", "heard1#0", "heard2#0", "heard2#1", "heard2#2")
    assert text.names(clips) == [f"{clip}#0" for clip in clips]
    assert text.names(["heard2#1"]) == ["heard2#1"]


def test_captions_need_no_sound(root: Path) -> None:
    represent.main("words", "mine")
    folder = root / "data/features/words"
    assert FeatureStore.open(folder / "mine-sound.h5").ids == ()
    assert len(FeatureStore.open(folder / "mine-text.h5").ids) == 6


def test_what_is_not_there_names_the_stage(root: Path) -> None:
    with pytest.raises(EarwitnessError, match="run `dvc repro represent@heard-mine`"):
        FeatureStore.open(root / "data/features/heard/mine-text.h5", "represent")


def test_captions_alone_become_a_dataset(tmp_path: Path) -> None:
    """One caption a row, or several; a clip's rows are put together."""
    (tmp_path / "train.csv").write_text("file_name,caption\nx y.wav,A dog\nb.wav,Rain\nx y.wav,C\n")
    (tmp_path / "val.csv").write_text("file_name,caption_1,caption_2\nb.wav,One,Two\n")
    settings = CaptionsDatasetConfig(
        layout="captions", root=str(tmp_path), development="train.csv", validation="val.csv"
    )
    manifest = prepare("words", settings, tmp_path, tmp_path, progress=False)
    found = [(clip.split, clip.path, clip.captions) for clip in manifest.clips]
    assert found == [
        ("development", "", ("A dog", "C")),
        ("development", "", ("Rain",)),
        ("validation", "", ("One", "Two")),
    ]
    assert manifest.sounding == () and len({clip.clip_id for clip in manifest.clips}) == 3
    (tmp_path / "val.csv").write_text("file_name,caption_1\nb.wav,\n")
    with pytest.raises(EarwitnessError, match=r"line 2 \('b.wav'\) has no caption"):
        prepare("words", settings, tmp_path, tmp_path, progress=False)

"""Sound whose attributes are directions of its features, with captions that name them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.config.encoders import LogmelEncoderConfig, SentenceEncoderConfig
from pipeline.config.hardware import HardwareConfig
from pipeline.config.plans import RetrieverPlan
from pipeline.config.retrievers import BiEncoderConfig, PannsTowerConfig, TextTowerConfig
from pipeline.config.sides import (
    SoundTowerSide,
    StoredSoundSide,
    StoredTextSide,
    TextTowerSide,
)
from pipeline.config.training import RetrievalTrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.features.store import FeatureStore, Header, write_store
from pipeline.models.towers.base import SoundTower, TowerOutput
from pipeline.tensors import Padded

THINGS = ("dog", "bell", "engine", "bird", "river", "crowd")
MANNERS = ("loudly", "softly", "twice", "slowly", "suddenly", "endlessly")
PLACES = ("indoors", "outside", "nearby", "underwater", "upstairs", "far away")
SIZES = {"development": 150, "validation": 40, "evaluation": 26}
FRAME_SECONDS = 0.1
WIDTHS = {"one": 24, "two": 10, "words": 12}


def attributes(number: int) -> tuple[str, str, str]:
    """Of the clip with that number, in an order that mixes them."""
    every = list(product(THINGS, MANNERS, PLACES))
    return every[number * 85 % len(every)]


def make_data(root: Path, dataset: str = "toy", splits: tuple[str, ...] = tuple(SIZES)) -> Manifest:
    """A manifest and the features one (two views), two and words, in the repository's layout."""
    draw = np.random.default_rng(len(dataset))
    directions = {
        name: np.random.default_rng(7).normal(size=(18, width)) for name, width in WIDTHS.items()
    }
    names = (*THINGS, *MANNERS, *PLACES)
    clips, found, number = [], [], 0
    for split in splits:
        for _ in range(SIZES[split]):
            thing, manner, place = attributes(number)
            captions = (f"A {thing} {manner} {place}.", f"{place}, a {thing} is heard {manner}")
            clips.append(Clip(f"{dataset}-{number}", split, f"{number}.wav", 1.0, captions))
            found.append([names.index(word) for word in (thing, manner, place)])
            number += 1
    manifest = Manifest(dataset, "audio", tuple(clips))
    manifest.save(root / f"data/corpora/{dataset}.json")
    of = np.array(found)
    sounds = [clip.clip_id for clip in clips]
    rows = [f"{name}#{k}" for name in sounds for k in range(2)]
    for name, ids, own, views, stage in (
        ("one", sounds, of, 2, FRAME_SECONDS),
        ("two", sounds, of, 1, 2 * FRAME_SECONDS),
        ("words", rows, of.repeat(2, 0), 1, 0.0),
    ):
        lengths = draw.integers(5, 20, len(ids) * views)
        which = np.repeat(own.repeat(views, 0), lengths, axis=0)  # (frames, 3)
        values = directions[name][which].sum(1) + 3 * draw.normal(size=(len(which), WIDTHS[name]))
        path = root / f"data/features/{dataset}/{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        header = Header(name, {}, "0", stage, views)
        write_store(path, header, ids, lengths, WIDTHS[name], [values.astype(np.float16)])
    return manifest


def sound(root: Path, *names: str, dataset: str = "toy") -> list[FeatureStore]:
    return [FeatureStore.open(root / f"data/features/{dataset}/{name}.h5") for name in names]


def words(root: Path, dataset: str = "toy") -> FeatureStore:
    return FeatureStore.open(root / f"data/features/{dataset}/words.h5")


class TinyTower(SoundTower):
    """A convolution of stride 2, with a buffer that training moves and a dropout."""

    def __init__(self, stored: int = WIDTHS["one"]) -> None:
        super().__init__()
        self.width, self.embedding_width, self.reduction = 16, 16, 2.0
        self.convolution = nn.Conv1d(stored, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm1d(16)
        self.dropout = nn.Dropout(0.1)

    def forward(self, stored: Sequence[Padded]) -> TowerOutput:
        (own,) = stored
        values = own.values * own.mask[..., None]
        values = self.norm(self.convolution(values.transpose(1, 2))).transpose(1, 2)
        frames = Padded(self.dropout(torch.relu(values)), (own.lengths + 1) // 2)
        sums = (frames.values * frames.mask[..., None]).sum(1)
        return TowerOutput(frames, sums / frames.lengths[:, None])


def build_tiny_tower(*_: Any, **__: Any) -> TinyTower:
    """In the place of ``pipeline.models.towers.registry.build_sound_tower``."""
    return TinyTower()


def make_plan(
    name: str = "tiny",
    *,
    tower: bool = False,
    scratch: bool = False,
    features: tuple[str, ...] = ("one", "two"),
    datasets: tuple[str, ...] = ("toy",),
    start: str | None = None,
    **training: Any,
) -> RetrieverPlan:
    """``tower``: of sound, over the feature one. ``scratch``: a text tower."""
    small = TextTowerConfig(
        weights="scratch", vocabulary=200, layers=1, heads=2, width=32, feed_forward=64,
        max_tokens=16, pooling="mean",
    )  # fmt: skip
    settings = {
        "epochs": 12, "batch": 30, "learning_rate": 5e-3, "crop_seconds": 0.8,
        "validations_per_epoch": 1, **training,
    }  # fmt: skip
    return RetrieverPlan(
        name=name,
        inputs={},
        code={},
        datasets=datasets,
        sound=SoundTowerSide(
            features=("one",),
            tower=PannsTowerConfig(module="panns", input="one", weights="scratch"),
            input=LogmelEncoderConfig(module="logmel"),
            weights=None,
        )
        if tower
        else StoredSoundSide(features=features),
        text=TextTowerSide(tower=small)
        if scratch
        else StoredTextSide(features=("words",), encoder=SentenceEncoderConfig(module="sentence")),
        biencoder=BiEncoderConfig(width=32, temperature=0.1),
        hardware=HardwareConfig(device="cpu"),
        training=RetrievalTrainingConfig(**settings),
        start=start,
    )

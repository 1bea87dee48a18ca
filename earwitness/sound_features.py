"""Any sound as the features that a trained model reads, made as its training set's were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from earwitness.repository import Repository
from pipeline.audio.waveforms import Waveform
from pipeline.config.plans import ExtractionPlan
from pipeline.encoders.registry import build_sound_encoder
from pipeline.features.extraction import encode_sounds
from pipeline.trained.encoding import encode_frames
from pipeline.trained.retriever import TrainedRetriever, load_retriever

Sounds = Sequence[Path | Waveform]
Entries = list[NDArray[np.float16]]  # (T, W) of each sound
Feature = tuple[str, str]  # the dataset that a model was trained on, and the feature's name


class SoundFeatures:
    """Computes features of any sound; an encoder or a retriever is loaded when first needed.

    Args:
        repository: where the encoders' plans and weights, and retrievers, are.
        device: that they run on.
    """

    def __init__(self, repository: Repository, device: torch.device) -> None:
        self._repository, self._device = repository, device
        self._encoders: dict[Feature, Callable[[Sounds, float], Entries]] = {}
        self._retrievers: dict[str, TrainedRetriever] = {}

    def chunks(
        self, sounds: Sounds, features: Sequence[Feature], size: int, longest_minutes: float
    ) -> Iterator[dict[Feature, Entries]]:
        """``features`` of ``size`` sounds at a time.

        Raises:
            EarwitnessError: a sound or an encoder that cannot be used, a file that is too long, or
                no such feature.
        """
        longest = 60 * longest_minutes
        with tqdm(total=len(sounds), unit="sound", disable=None) as bar:
            for at in range(0, len(sounds), size):
                chunk = sounds[at : at + size]
                made: dict[Feature, Entries] = {}
                yield {feature: self._make(feature, chunk, made, longest) for feature in features}
                bar.update(len(chunk))

    def _make(
        self, feature: Feature, sounds: Sounds, made: dict[Feature, Entries], longest: float
    ) -> Entries:
        """One feature; ``made`` are those that are there, and gets the new ones."""
        if feature not in made:
            dataset, name = feature
            maker, _, part = name.partition("/")
            if part:
                retriever = self._retriever(maker)
                names = retriever.sound.features
                read = [self._make((dataset, each), sounds, made, longest) for each in names]
                made[feature] = retriever_feature(retriever, read, part)
            else:
                made[feature] = self._encoder(feature)(sounds, longest)
        return made[feature]

    def _encoder(self, feature: Feature) -> Callable[[Sounds, float], Entries]:
        """The frozen encoder, with the settings and weights that its dataset was extracted with."""
        if feature not in self._encoders:
            name = "-".join(feature)
            plan = ExtractionPlan.load(self._repository.data / f"plans/extraction/{name}.json")
            settings = self._repository.located(plan.encoder)
            trained = self._repository.root / plan.weights if plan.weights else None
            encoder = build_sound_encoder(settings, trained, self._device)
            seconds = settings.window_seconds, settings.batch_seconds
            self._encoders[feature] = lambda sounds, longest: encode_sounds(
                sounds, encoder, *seconds, longest
            )
        return self._encoders[feature]

    def _retriever(self, name: str) -> TrainedRetriever:
        if name not in self._retrievers:
            folder = self._repository.retrievers / name
            self._retrievers[name] = load_retriever(folder, self._device)
        return self._retrievers[name]


def retriever_feature(retriever: TrainedRetriever, read: Sequence[Entries], part: str) -> Entries:
    """Its tower's ``frames`` (T', D) of each sound, or its embedding (1, D), from what it reads."""
    if part == "frames":
        return encode_frames(read[0], retriever)
    embeddings = retriever.embed_sound(retriever.sound.arrays(read)).cpu().half().numpy()
    return [row[None] for row in embeddings]

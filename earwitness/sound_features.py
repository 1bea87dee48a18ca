"""Any sound as the features that a trained model reads, made as its training set's were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from earwitness.repository import Repository
from pipeline.audio.sound_file import SoundFile
from pipeline.audio.waveforms import Waveform
from pipeline.config.encoders import EncoderConfig
from pipeline.config.feature_files import StoredAs
from pipeline.config.plans import ExtractionPlan, RetrieverPlan, SpacePlan
from pipeline.config.sides import EncoderSoundSide
from pipeline.encoders.base import SoundEncoder
from pipeline.encoders.registry import build_sound_encoder
from pipeline.features.extraction import encode_sounds
from pipeline.features.frames import as_stored
from pipeline.freed import give_back
from pipeline.trained.encoding import encode_frames
from pipeline.trained.retriever import TrainedRetriever, load_retriever

Sounds = Sequence[SoundFile | Waveform]
Entries = list[NDArray[np.float16]]  # (T, W) of each sound
# where the encoder's settings are, and the feature's name: the dataset that a model was trained on,
# or the space that has them itself
Feature = tuple[str, str]


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
        self._own: dict[Feature, EncoderSoundSide] = {}  # of spaces
        self._rates: dict[Feature, int] = {}  # that each encoder reads sound at

    def add(self, space: TrainedRetriever, encoder: SoundEncoder) -> None:
        """A space, with the encoder that its sound is read by, which is built already."""
        for feature in self.read_by(space):
            self._encoders[feature] = _encoding(encoder, self._own[feature].encoder)
            self._rates[feature] = encoder.sample_rate

    def read_by(self, retriever: TrainedRetriever, dataset: str | None = None) -> list[Feature]:
        """The features that a retriever's sound side reads.

        Args:
            dataset: that their encoders' settings are of; None: the first that it was trained on.
        """
        plan = retriever.plan
        if isinstance(plan, SpacePlan):
            own = (plan.name, *plan.sound.features)
            self._own[own] = plan.sound
            return [own]
        if dataset is None:
            assert isinstance(plan, RetrieverPlan)
            dataset = plan.datasets[0]
        return [(dataset, name) for name in plan.sound.features]

    def chunks(
        self, sounds: Sounds, features: Sequence[Feature], size: int, longest_minutes: float
    ) -> Iterator[dict[Feature, Entries]]:
        """``features`` of ``size`` sounds at a time.

        Raises:
            EarwitnessError: a sound or an encoder that cannot be used, a file that is too long, or
                no such feature.
        """
        with tqdm(total=len(sounds), unit="sound", disable=None) as bar:
            for at in range(0, len(sounds), size):
                chunk = sounds[at : at + size]
                yield self.made(chunk, features, 60 * longest_minutes)
                bar.update(len(chunk))

    def made(
        self, sounds: Sounds, features: Sequence[Feature], longest: float
    ) -> dict[Feature, Entries]:
        """``features`` of all ``sounds``; a file of more than ``longest`` seconds is refused.

        Raises:
            EarwitnessError: as :meth:`chunks`.
        """
        made: dict[Feature, Entries] = {}
        return {feature: self._make(feature, sounds, made, longest) for feature in features}

    def sample_rate(self, features: Sequence[Feature]) -> int | None:
        """In Hz, that all encoders of ``features`` read sound at; None: they differ."""
        encoders = [each for feature in features for each in self._read(feature)]
        for each in encoders:
            self._encoder(each)
        rates = {self._rates[each] for each in encoders}
        return rates.pop() if len(rates) == 1 else None

    def sources(self, features: Sequence[Feature]) -> list[Path]:
        """Files that say how ``features`` are made, and trained weights, where there are any."""
        found: dict[Path, None] = {}
        for feature in features:
            name, _, part = feature[1].partition("/")
            if part:
                folder = self._repository.encoder(name)
                found |= dict.fromkeys((folder / "plan.json", folder / "model.safetensors"))
            for each in self._read(feature):
                found[self._plan_file(each)] = None
                if weights := self._plan(each).weights:
                    found[self._repository.root / weights] = None
        return [path for path in found if path.is_file()]

    def _read(self, feature: Feature) -> list[Feature]:
        """The encoders' features that one is made of."""
        dataset, name = feature
        maker, _, part = name.partition("/")
        if not part:
            return [feature]
        read = self.read_by(self._retriever(maker), dataset)
        return [own for each in read for own in self._read(each)]

    def _make(
        self, feature: Feature, sounds: Sounds, made: dict[Feature, Entries], longest: float
    ) -> Entries:
        """One feature; ``made`` are those that are there, and gets the new ones."""
        if feature not in made:
            dataset, name = feature
            maker, _, part = name.partition("/")
            if part:
                retriever = self._retriever(maker)
                features = self.read_by(retriever, dataset)
                read = [self._make(each, sounds, made, longest) for each in features]
                made[feature] = retriever_feature(retriever, read, part)
            else:
                made[feature] = self._encoder(feature)(sounds, longest)
            give_back()
        return made[feature]

    def _encoder(self, feature: Feature) -> Callable[[Sounds, float], Entries]:
        """The frozen encoder, with the settings and weights that its dataset was extracted with."""
        if feature not in self._encoders:
            plan = self._plan(feature)
            settings = self._repository.located(plan.encoder)
            trained = self._repository.root / plan.weights if plan.weights else None
            encoder = build_sound_encoder(settings, trained, self._device)
            store = plan.store if isinstance(plan, ExtractionPlan) else "float16"
            self._encoders[feature] = _encoding(encoder, settings, store)
            self._rates[feature] = encoder.sample_rate
        return self._encoders[feature]

    def _plan(self, feature: Feature) -> ExtractionPlan | EncoderSoundSide:
        return self._own.get(feature) or ExtractionPlan.load(self._plan_file(feature))

    def _plan_file(self, feature: Feature) -> Path:
        return self._repository.data / f"plans/extraction/{'-'.join(feature)}.json"

    def _retriever(self, name: str) -> TrainedRetriever:
        if name not in self._retrievers:
            folder = self._repository.encoder(name)
            self._retrievers[name] = load_retriever(folder, self._device)
        return self._retrievers[name]


def _encoding(
    encoder: SoundEncoder, settings: EncoderConfig, store: StoredAs = "float16"
) -> Callable[[Sounds, float], Entries]:
    """Sounds, of so many seconds at most, as an encoder's frames are read from its file."""
    seconds = settings.window_seconds, settings.batch_seconds

    def encoded(sounds: Sounds, longest: float) -> Entries:
        return [
            as_stored(each, store) for each in encode_sounds(sounds, encoder, *seconds, longest)
        ]

    return encoded


def retriever_feature(retriever: TrainedRetriever, read: Sequence[Entries], part: str) -> Entries:
    """Its tower's ``frames`` (T', D) of each sound, or its embedding (1, D), from what it reads."""
    if part == "frames":
        return encode_frames(read[0], retriever)
    embeddings = retriever.embed_sound(retriever.sound.arrays(read)).cpu().half().numpy()
    return [row[None] for row in embeddings]

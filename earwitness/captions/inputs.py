"""What a captioning system reads, of sounds: the features of all its captioners, in batches."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from earwitness.captions.recordings import SoundEnd, SoundPart, ahead
from earwitness.sound_features import Entries, Feature, SoundFeatures, Sounds
from pipeline.config.evaluation import DecodingConfig
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predict import Caption, predict
from pipeline.decoding.rerank import Reranker
from pipeline.decoding.text_memory import TextMemory, read_sound
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded, pad_arrays

CHUNK = 128  # sounds whose features are held at once


class PartGroup(NamedTuple):
    """Parts that are encoded together, with what ends among them."""

    events: list[SoundPart | SoundEnd]
    problems: list[EarwitnessError | None]  # of each part


@dataclass(frozen=True)
class SystemInputs:
    """M captioners in one search, each with E features."""

    ensemble: Ensemble
    memories: tuple[TextMemory | None, ...]  # M
    features: SoundFeatures
    reranker: Reranker | None = None
    # its embeddings (B, D) of the batches that are not captioned yet
    embedded: deque[Tensor] = field(default_factory=deque)

    def predicted(
        self, batches: Iterator[list[tuple[Padded, ...]]], search: DecodingConfig, seed: int
    ) -> Iterator[list[Caption]]:
        """The captions of each batch, as the reranker chooses where there is one."""
        for captions in predict(self.ensemble, batches, search, seed):
            if self.reranker is not None:
                tokenizer = self.ensemble.captioners[0].tokenizer
                captions = self.reranker.choose(captions, self.embedded.popleft(), tokenizer)
            yield captions

    def sample_rate(self) -> int | None:
        """In Hz, that all encoders read sound at; None: they differ."""
        return self.features.sample_rate(self.wanted())

    def wanted(self) -> list[Feature]:
        """Distinct, the reranker's too."""
        own = [feature for features in self.own() for feature in features]
        return [*dict.fromkeys([*own, *self._reranked()])]

    def _reranked(self) -> list[Feature]:
        """What the reranker reads."""
        return [] if self.reranker is None else self.features.read_by(self.reranker.retriever)

    def own(self) -> list[list[Feature]]:
        """M × E names of features."""
        members = self.ensemble.captioners
        return [[(m.plan.dataset, feature) for feature in m.plan.features] for m in members]

    def batches(
        self, sounds: Sounds, size: int, longest_minutes: float
    ) -> Iterator[list[tuple[Padded, ...]]]:
        """M × E × (B, T, D), ``size`` sounds at a time."""
        chunk = max(CHUNK // size, 1) * size
        for made in self.features.chunks(sounds, self.wanted(), chunk, longest_minutes):
            for at in range(0, len(next(iter(made.values()))), size):
                yield self._inputs({name: own[at : at + size] for name, own in made.items()})

    def _inputs(self, made: dict[Feature, Entries]) -> list[tuple[Padded, ...]]:
        """M × E × (B, T, D), of B sounds."""
        own = self.own()
        for member, features in zip(self.ensemble.captioners, own, strict=True):
            widths = [made[feature][0].shape[1] for feature in features]
            member.check_widths(widths, member.plan.features)
        if self.reranker is not None:
            self.embedded.append(self.reranker.embed([made[each] for each in self._reranked()]))
        read = dict.fromkeys(feature for features in own for feature in features)
        values = {feature: pad_arrays(made[feature], self.ensemble.device) for feature in read}
        batch = [tuple(values[feature] for feature in features) for features in own]
        return read_sound(self.memories, batch)

    def grouped(
        self, made: Iterator[list[SoundPart | SoundEnd]], waiting: deque[PartGroup]
    ) -> Iterator[list[tuple[Padded, ...]]]:
        """M × E × (B, T, D) of each group that has any; all groups are added to ``waiting``."""
        began = False
        for events in ahead(made):
            sounds = [event.sound for event in events if isinstance(event, SoundPart)]
            entries, problems = self._encoded(sounds, began)
            began = began or None in problems
            waiting.append(PartGroup(events, problems))
            if entries is not None:
                yield self._inputs(entries)

    def _encoded(
        self, sounds: Sounds, began: bool
    ) -> tuple[dict[Feature, Entries] | None, list[EarwitnessError | None]]:
        """Features of those sounds that have any, and why others have none.

        Args:
            began: other sounds had features, so that an error is a sound's and not the encoder's.
        """
        if not sounds:
            return None, []
        wanted = self.wanted()
        try:
            return self.features.made(sounds, wanted, math.inf), [None] * len(sounds)
        except EarwitnessError as error:
            if len(sounds) == 1:
                if not began:
                    raise
                return None, [error]
        apart = [self._encoded([sound], True) for sound in sounds]
        problems = [problem for _, own in apart for problem in own]
        if not began and None not in problems:
            raise problems[0] or AssertionError
        kept = [entries for entries, _ in apart if entries is not None]
        joined = {name: [own[name][0] for own in kept] for name in wanted}
        return joined if kept else None, problems

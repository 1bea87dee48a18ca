"""Sound and text in one space: by a trained retriever, or by the mean similarity of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earwitness.excerpts import Spans, excerpt_features
from earwitness.inputs import Sound, read_sounds
from earwitness.places import Place, place_of
from earwitness.repository import Repository, chosen_seed, model_folder, seed_folder
from earwitness.sound_features import Entries, Feature, SoundFeatures
from earwitness.training_data import FOR_SEARCH, datasets_of, warn_if_synthetic
from pipeline.audio.waveforms import Waveform
from pipeline.config.section import nearest
from pipeline.errors import EarwitnessError
from pipeline.limits import LONGEST_MINUTES
from pipeline.metrics.retrieval import mean_similarity
from pipeline.planning.lookup import retrieval_seeds
from pipeline.trained.readers import StoredTextReader
from pipeline.trained.retriever import TrainedRetriever, load_retriever

CHUNK = 128  # sounds whose features are held at once
Rows = NDArray[np.float32]


class RetrievalSystem:
    """One retriever or several, with the encoders that they read sound and text by.

    An embedding is (ΣD,): each retriever's (D,) beside the others'. Compare embeddings by
    :meth:`similarity`, which knows what each retriever was trained with.
    """

    def __init__(
        self, members: Sequence[TrainedRetriever], features: SoundFeatures, seed: int = 1
    ) -> None:
        self.members, self._features = tuple(members), features
        self.seed = seed  # that they were trained with

    @classmethod
    def load(
        cls,
        name: str | Path | None = None,
        *,
        root: str | Path | None = None,
        device: str = "auto",
        seed: int | None = None,
    ) -> RetrievalSystem:
        """A system of ``params.yaml``, its first of retrievers where none is named, or one
        retriever's folder.

        Arguments and errors are those of :func:`earwitness.load`; a system that ranks by captions
        is refused, for it reads no sound.
        """
        return cls.open(place_of(name, root), device, seed)

    @classmethod
    def open(cls, place: Place, device: str = "auto", seed: int | None = None) -> RetrievalSystem:
        """As :meth:`load`, of a place that is found already."""
        repository, name, folder = place
        found, folders, seed = system_members(folder or name, repository, seed)
        members = [_located(load_retriever(own, device), repository) for own in folders]
        known = [dataset for own in folders for dataset in datasets_of(own)]
        if folder is not None:
            found = members[0].plan.name
        warn_if_synthetic(found, known, repository.params(), repository, FOR_SEARCH)
        return cls(members, SoundFeatures(repository, members[0].device), seed)

    @property
    def widths(self) -> tuple[int, ...]:
        """D of each retriever, in the order in which an embedding has them."""
        return tuple(member.width for member in self.members)

    def embed_audio(
        self,
        sounds: Sequence[Sound],
        *,
        sample_rate: int | None = None,
        longest_minutes: float = LONGEST_MINUTES,
    ) -> Rows:
        """(N, ΣD) float32 embeddings of N sounds, in their order.

        Args:
            sounds: files, or arrays (samples,) or (channels, samples) of floats, full scale ±1.
            sample_rate: of the arrays, in Hz; needed where there are some.
            longest_minutes: a longer file is refused, before it takes memory.

        Raises:
            EarwitnessError: a sound cannot be used (the message names it), or an encoder that is
                not there or gives other features than were trained on.
        """
        wanted = [feature for features in self._read for feature in features]
        rows = [np.zeros((0, sum(self.widths)), np.float32)]
        read = read_sounds(sounds, sample_rate)
        for made in self._features.chunks(read, wanted, CHUNK, longest_minutes):
            rows.append(self._embedded(made))
        return np.concatenate(rows)

    def embed_batch(self, files: Sequence[Path]) -> Rows:
        """As :meth:`embed_audio`, of a few files of any length at once, with no progress bar."""
        wanted = [feature for features in self._read for feature in features]
        return self._embedded(self._features.made(files, wanted, np.inf))

    def embed_excerpts(self, sounds: Sequence[Waveform], spans: Sequence[Spans]) -> Rows:
        """(Σn, ΣD) float32 embeddings of excerpts, sound by sound; each sound is encoded once.

        Args:
            sounds: N sounds. spans: of each (n, 2), starts and ends of its excerpts in seconds.

        Raises:
            EarwitnessError: an encoder that is not there, or gives other features than were
                trained on.
        """
        wanted = [feature for features in self._read for feature in features]
        return self._embedded(excerpt_features(self._features, sounds, spans, wanted))

    @property
    def _read(self) -> list[list[Feature]]:
        """The features that each retriever reads."""
        return [self._features.read_by(member) for member in self.members]

    def _embedded(self, made: Mapping[Feature, Entries]) -> Rows:
        """(N, ΣD) of N sounds' features."""
        parts = [
            member.embed_sound(member.sound.arrays([made[feature] for feature in features])).cpu()
            for member, features in zip(self.members, self._read, strict=True)
        ]
        return torch.cat(parts, dim=1).numpy()

    def embed_text(self, texts: Sequence[str]) -> Rows:
        """(M, ΣD) float32 embeddings of M texts, in their order.

        Raises:
            EarwitnessError: a text is empty or has no known word, or a text encoder is not there.
        """
        if isinstance(texts, str):
            raise EarwitnessError("one text is given where a list is needed; give [text]")
        for number, text in enumerate(texts):
            if not text.strip():
                raise EarwitnessError(f"texts[{number}] is empty; say what to search for")
        parts = [member.embed_text(member.text.queries(texts)).cpu() for member in self.members]
        return torch.cat(parts, dim=1).numpy()

    def similarity(self, texts: Rows, sounds: Rows) -> Rows:
        """(M, N) float32, how well each text fits each sound; more is better.

        The mean over the retrievers of the cosine, or of what else one was trained with: the dot
        product, or minus the Euclidean distance.

        Args:
            texts: (M, ΣD) of :meth:`embed_text`. sounds: (N, ΣD) of :meth:`embed_audio`.

        Raises:
            EarwitnessError: embeddings of another system.
        """
        pairs = zip(self.members, self._parts(texts), self._parts(sounds), strict=True)
        members = [member.pair(text, sound) for member, text, sound in pairs]
        return mean_similarity(members, slice(None)).numpy()

    def _parts(self, embeddings: Rows) -> Sequence[Tensor]:
        """(N, ΣD) → each retriever's (N, D)."""
        if embeddings.ndim != 2 or embeddings.shape[1] != sum(self.widths):
            raise EarwitnessError(
                f"embeddings of shape {embeddings.shape}: this system's are "
                f"(N, {sum(self.widths)}); embed with it, in lists"
            )
        return torch.from_numpy(embeddings).split(self.widths, dim=1)


def system_members(
    name: str | Path | None, repository: Repository, seed: int | None = None
) -> tuple[str, list[Path], int]:
    """The name of a retrieval system, its retrievers' folders, and the seed of their models.

    Args:
        name: of ``params.yaml``, or one retriever's folder; None: the first that reads sound.
        seed: None: the first.

    Raises:
        EarwitnessError: there is no such system, or it ranks by captions and reads no sound, or it
            is not made with that seed.
    """
    folder = model_folder(name)
    if folder is not None:
        own, seed = seed_folder(folder, seed, repository)
        return str(own), [own], seed
    params, source = repository.params(), repository.params_file
    systems = params.retrieval_systems
    if not systems:
        raise EarwitnessError(f"{source}: retrieval_systems is empty; add one and run `dvc repro`")
    able = [each for each, own in systems.items() if own.retrievers]
    name = str(name or next(iter(able or systems)))
    if name not in systems:
        raise EarwitnessError(f"{source}: no retrieval system '{name}'{nearest(name, systems)}")
    if name not in able:
        raise EarwitnessError(
            f"{source}: retrieval system '{name}' ranks by captions and reads no sound; name "
            "one of retrievers"
        )
    seed = chosen_seed(name, retrieval_seeds(params)[name], seed, source)
    return name, [repository.retriever(own, seed) for own in systems[name].retrievers], seed


def _located(member: TrainedRetriever, repository: Repository) -> TrainedRetriever:
    """With a text encoder whose paths mean the same in any folder, where it has one."""
    if not isinstance(member.text, StoredTextReader):
        return member
    encoder = repository.located(member.text.side.encoder)
    side = member.text.side.model_copy(update={"encoder": encoder})
    return replace(member, text=replace(member.text, side=side))

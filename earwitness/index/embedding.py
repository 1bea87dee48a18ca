"""Sound files to what an index stores of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from earwitness.index.layout import Entries
from earwitness.index.scoring import Kind, Member
from earwitness.retrieval import RetrievalSystem
from pipeline.audio.waveforms import probe
from pipeline.trained.retriever import TrainedRetriever


def members_of(system: RetrievalSystem) -> tuple[Member, ...]:
    """How each part of the system's embeddings is compared."""
    return tuple(Member(member.width, _measure(member)) for member in system.members)


def _measure(member: TrainedRetriever) -> Kind:
    settings = member.plan.biencoder
    if settings.loss == "exp_distance":
        return "distance"
    return "cosine" if settings.similarity == "cosine" else "dot"


def embed(system: RetrievalSystem, files: Sequence[Path], digests: Sequence[bytes]) -> Entries:
    """The entries of N files, in order.

    Raises:
        EarwitnessError: a file cannot be decoded, or an encoder is not there.
    """
    none = Entries.none(sum(system.widths))
    return Entries(
        digests=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
        seconds=np.array([probe(path) for path in files], np.float32),
        rows=system.embed_audio(files, longest_minutes=np.inf),
        counts=np.zeros(len(files), np.int64),
        spans=none.spans,
        windows=none.windows,
        scales=none.scales,
    )

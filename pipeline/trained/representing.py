"""A trained retriever as a CLAP: sound and captions in its space, as two feature files.

Captions need no sound: of a dataset of captions alone the file of sound has no entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config.plans import RepresentationPlan
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore, Header, Index, caption_id, write_store
from pipeline.trained.retriever import TrainedRetriever

BLOCK = 1 << 16  # embeddings that are written together


class Represented(NamedTuple):
    """What is known of both files."""

    sound: Index
    text: Index


def represent(
    plan: RepresentationPlan,
    manifest: Manifest,
    stores: Sequence[FeatureStore],
    text: FeatureStore | None,
    retriever: TrainedRetriever,
    weights: str,
    folder: Path,
) -> Represented:
    """Writes ``<retriever>-sound.h5``, a row a clip, and ``<retriever>-text.h5``, one a caption.

    Args:
        stores: of ``plan.features``, of all the manifest's clips with sound.
        text: of ``plan.text_features``, where the retriever has no text tower.
        weights: digest of the retriever's.
        folder: of the dataset's feature files.

    Raises:
        EarwitnessError: features of another dataset or width, or values that are not finite.
    """
    clips = [clip.clip_id for clip in manifest.sounding]
    for store in stores:
        store.check_ids(clips, f"dataset {manifest.dataset}")
    captions = [
        (caption_id(clip.clip_id, number), caption)
        for clip in manifest.clips
        for number, caption in enumerate(clip.captions)
    ]
    names = [name for name, _ in captions]
    sound = retriever.embed_sound(stores, clips) if clips else None
    texts = retriever.embed_captions([caption for _, caption in captions], text, names)
    return Represented(
        _write(plan, retriever, weights, "sound", clips, sound, folder),
        _write(plan, retriever, weights, "text", names, texts, folder),
    )


def _write(
    plan: RepresentationPlan,
    retriever: TrainedRetriever,
    weights: str,
    side: str,
    ids: Sequence[str],
    values: Tensor | None,
    folder: Path,
) -> Index:
    """One side: (N, D) unit rows, a frame an entry."""
    settings = retriever.plan.model_dump(mode="json", include={"sound", "input", "text"})
    header = Header(f"{plan.name}-{side}", settings, weights, frame_seconds=0.0)

    def blocks() -> Iterator[NDArray[np.float16]]:
        for rows in values.split(BLOCK) if values is not None else ():
            block = rows.half().numpy()
            if not np.isfinite(block).all():
                raise EarwitnessError(
                    f"{plan.name}: an embedding of {side} is not a number; train the retriever "
                    "again with a lower learning_rate"
                )
            yield block

    path = folder / f"{plan.name}-{side}.h5"
    return write_store(path, header, ids, np.ones(len(ids), np.int64), retriever.width, blocks())

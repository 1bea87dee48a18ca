"""Which clips a model is trained on, and which it is validated on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.config.training import OptimisationConfig
from pipeline.corpora.clips import Clips
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError


def training_clips(manifest: Manifest, settings: OptimisationConfig) -> tuple[Clips, Clips]:
    """The clips to train on and those to validate on.

    With ``validation_share`` both splits are merged and split anew (SJTU 3, "a 9 : 1 ratio"): by a
    hash of each clip's name, so that a clip stays where it is when others are added, and captioners
    of any seed share the split.

    Raises:
        EarwitnessError: a split is missing, or a clip has no caption.
    """
    clips, held_out = manifest.split("development"), manifest.split("validation")
    for each in (clips, held_out):
        if not each.caption_counts.all():
            bare = each[int(each.caption_counts.argmin())]
            raise EarwitnessError(
                f"{manifest.dataset}: {bare.clip_id!r} of {bare.split} has no caption; add one"
            )
    if settings.validation_share is None:
        return clips, held_out
    merged = Clips(clips.columns, np.concatenate([clips.rows, held_out.rows]))
    chosen = drawn_by_name(merged.ids(), settings.validation_share)
    if chosen.all():
        raise EarwitnessError(f"{manifest.dataset}: {len(merged)} clips are too few to split")
    return merged.where(~chosen), merged.where(chosen)


def drawn_by_name(names: Sequence[str], share: float, salt: str = "") -> NDArray[np.bool_]:
    """(N,) which of the names are in a ``share`` of them, one or more, by a hash of each."""
    digests = [hashlib.sha256(f"{salt}{name}".encode()).digest() for name in names]
    ranked = sorted(range(len(names)), key=digests.__getitem__)
    chosen = np.zeros(len(names), np.bool_)
    chosen[ranked[: max(1, round(share * len(names)))]] = True
    return chosen

"""Which clips a training run learns from, and which it is chosen on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipeline.config import Optimisation
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError

SPLITS = ("development", "validation")

Clips = tuple[Clip, ...]


def training_clips(manifest: Manifest, settings: Optimisation) -> tuple[Clips, Clips]:
    """The clips to train on and those to validate on.

    With ``validation_share`` both splits, as far as they are there, are merged and split anew (SJTU
    3, "a 9 : 1 ratio"): by a hash of each clip's name, so that captioners and retrievers of any
    seed share the split.

    Raises:
        EarwitnessError: a split is missing, or a clip has no caption.
    """
    (pair,) = mixed_clips([manifest], settings)
    return pair


def mixed_clips(manifests: Sequence[Manifest], settings: Optimisation) -> list[tuple[Clips, Clips]]:
    """The same of each dataset of a mixture, in order.

    A dataset without a validation split (MACS) has none to validate on where another has.

    Raises:
        EarwitnessError: a split is missing, or a clip has no caption.
    """
    share = settings.validation_share
    pairs = []
    for manifest in manifests:
        clips = manifest.split("development")
        held_out = tuple(clip for clip in manifest.clips if clip.split == "validation")
        if bare := next((clip for clip in (*clips, *held_out) if not clip.captions), None):
            raise EarwitnessError(
                f"{manifest.dataset}: {bare.clip_id!r} of {bare.split} has no caption; add one"
            )
        pairs.append((clips, held_out) if share is None else _split(manifest, share))
    if not any(held_out for _, held_out in pairs):
        names = ", ".join(manifest.dataset for manifest in manifests)
        raise EarwitnessError(
            f"{names}: no clip to validate on; add a split 'validation', or set validation_share"
        )
    return pairs


def _split(manifest: Manifest, share: float) -> tuple[Clips, Clips]:
    merged = [clip for split in SPLITS for clip in manifest.clips if clip.split == split]
    count = max(1, round(share * len(merged)))
    ranked = sorted(merged, key=lambda clip: hashlib.sha256(clip.clip_id.encode()).digest())
    chosen = {clip.clip_id for clip in ranked[:count]}
    if len(chosen) == len(merged):
        raise EarwitnessError(f"{manifest.dataset}: {len(merged)} clips are too few to split")
    return (
        tuple(clip for clip in merged if clip.clip_id not in chosen),
        tuple(clip for clip in merged if clip.clip_id in chosen),
    )

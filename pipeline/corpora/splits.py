"""Which clips a model is trained on, and which it is validated on."""

from __future__ import annotations

import hashlib

from pipeline.config.training import OptimisationConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError


def training_clips(
    manifest: Manifest, settings: OptimisationConfig
) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """The clips to train on and those to validate on.

    With ``validation_share`` both splits are merged and split anew (SJTU 3, "a 9 : 1 ratio"): by a
    hash of each clip's name, so that a clip stays where it is when others are added, and captioners
    of any seed share the split.

    Raises:
        EarwitnessError: a split is missing, or a clip has no caption.
    """
    clips, held_out = manifest.split("development"), manifest.split("validation")
    if bare := next((clip for clip in (*clips, *held_out) if not clip.captions), None):
        raise EarwitnessError(
            f"{manifest.dataset}: {bare.clip_id!r} of {bare.split} has no caption; add one"
        )
    if settings.validation_share is None:
        return clips, held_out
    merged = (*clips, *held_out)
    count = max(1, round(settings.validation_share * len(merged)))
    ranked = sorted(merged, key=lambda clip: hashlib.sha256(clip.clip_id.encode()).digest())
    chosen = {clip.clip_id for clip in ranked[:count]}
    if len(chosen) == len(merged):
        raise EarwitnessError(f"{manifest.dataset}: {len(merged)} clips are too few to split")
    return (
        tuple(clip for clip in merged if clip.clip_id not in chosen),
        tuple(clip for clip in merged if clip.clip_id in chosen),
    )

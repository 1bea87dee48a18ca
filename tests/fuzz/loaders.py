"""The table of loaders: every function by which a file from outside or from disk enters."""

from __future__ import annotations

from tests.fuzz import binary, encoders, models, scale, sound, texts, web

LOADERS = (
    *sound.LOADERS,
    *texts.LOADERS,
    *binary.LOADERS,
    *models.LOADERS,
    *encoders.LOADERS,
    *web.LOADERS,
    *scale.LOADERS,
)

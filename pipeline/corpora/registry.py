"""Every layout of dataset, and the one way from any of them to a manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config.datasets import DatasetConfig
from pipeline.corpora import (
    audiocaps,
    blind,
    captions,
    clotho,
    descriptions,
    folder,
    macs,
    soundscapes,
    wavcaps,
    webdataset,
)
from pipeline.corpora.manifest import Manifest
from pipeline.storage.places import one_listing

# (name, that layout's settings, base, raw, progress) → manifest
CORPORA: dict[str, Callable[[str, Any, Path, Path, bool], Manifest]] = {
    "soundscapes": soundscapes.prepare,
    "clotho": clotho.prepare,
    "folder": folder.prepare,
    "webdataset": webdataset.prepare,
    "audiocaps": audiocaps.prepare,
    "macs": macs.prepare,
    "wavcaps": wavcaps.prepare,
    "blind": blind.prepare,
    "captions": captions.prepare,
    "descriptions": descriptions.prepare,
}


def prepare(
    name: str, settings: DatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """Reads, or makes, a dataset.

    Args:
        base: the repository's root, which relative paths are against.
        raw: folder below ``base`` for sound that is made here, as the manifest shall name it.
        progress: show a bar on a terminal.

    Raises:
        EarwitnessError: as the layout's own module says.
    """
    with one_listing():
        found = CORPORA[settings.layout](name, settings, base, raw, progress)
    return replace(found, synthetic=settings.synthetic)

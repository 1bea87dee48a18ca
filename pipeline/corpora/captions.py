"""Captions without sound, for text-only training and a text memory.

One CSV file a split: ``file_name`` and ``caption`` (one a row, a clip's rows put together) or
``caption_1`` … . The sound files that they name need not exist.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config.datasets import CaptionsDatasetConfig
from pipeline.corpora.manifest import SPLITS, Clip, Manifest, check_clips
from pipeline.corpora.recordings import Recording, clip_ids
from pipeline.corpora.tables import captions, sound_name
from pipeline.tables import captioned_rows


def prepare(
    name: str, settings: CaptionsDatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """The captions at ``settings.root``, which is relative to ``base`` or absolute.

    Raises:
        EarwitnessError: a table cannot be used; see tables.py.
    """
    folder = base / settings.root
    recordings: list[Recording] = []
    for split in SPLITS:
        table = getattr(settings, split)
        if table is not None:
            recordings += _split(split, folder / table)
    pairs = zip(clip_ids(recordings), recordings, strict=True)
    clips = [Clip(clip_id, r.split, "", 0.0, r.captions) for clip_id, r in pairs]
    return Manifest(name, settings.root, check_clips(clips, f"dataset {name}"))


def _split(split: str, path: Path) -> list[Recording]:
    by_name: dict[str, list[str]] = {}
    for row in captioned_rows(path, ["file_name"]):
        file_name = sound_name(row, "file_name", path)
        by_name.setdefault(file_name, []).extend(captions(row, path, file_name))
    return [Recording(split, f"{split}/{name}", tuple(texts)) for name, texts in by_name.items()]

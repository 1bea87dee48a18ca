"""Captions without sound: what text-only training and a memory need, and nothing else.

One CSV file a split: ``file_name`` and ``caption`` (one a row, a clip's rows put together) or
``caption_1`` … . The names are of sound that need not be there.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config.datasets import CaptionsDatasetConfig
from pipeline.corpora.manifest import SPLITS, Clip, Manifest, check_clips
from pipeline.corpora.recordings import Recording, clip_ids
from pipeline.corpora.tables import read_rows, sound_name
from pipeline.errors import EarwitnessError


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
    captions: dict[str, list[str]] = {}
    for row in read_rows(path, ["file_name"], captions=True):
        file_name = sound_name(row, "file_name", path)
        if not row.captions():
            raise EarwitnessError(
                f"{path}: line {row.line} ({file_name!r}) has no caption; write one or remove it"
            )
        captions.setdefault(file_name, []).extend(row.captions())
    return [Recording(split, f"{split}/{name}", tuple(texts)) for name, texts in captions.items()]

"""Captions without sound, for text-only training and a text memory.

CSV files, one or more a split: ``file_name`` and ``caption`` (one a row, a clip's rows put
together) or ``caption_1`` …; or AudioCaps' official columns. The sound that they name need not
exist. Public ones can be fetched (fetch_captions.py) and stand beside others.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config.datasets import CAPTION_TABLES, CaptionsDatasetConfig
from pipeline.corpora.audiocaps import official_names
from pipeline.corpora.manifest import SPLITS, Clip, Manifest, check_clips
from pipeline.corpora.recordings import Recording, clip_ids
from pipeline.corpora.tables import captions, sound_name
from pipeline.storage.places import folder_at
from pipeline.tables import captioned_rows


def prepare(
    name: str, settings: CaptionsDatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """The captions at ``settings.root``, which is relative to ``base`` or absolute.

    A split is all its tables, those that are fetched first.

    Raises:
        EarwitnessError: a table cannot be used; see tables.py.
    """
    folder = folder_at(base, settings.root)
    recordings: list[Recording] = []
    for split in SPLITS:
        fetched = [CAPTION_TABLES[source][split] for source in settings.fetch]
        tables = list(dict.fromkeys([*fetched, *(getattr(settings, split) or ())]))
        for table in tables:
            # two tables may name their sound alike
            place = split if len(tables) == 1 else f"{split}/{table}"
            by_name = _captions_by_name(folder / table)
            recordings += [Recording(split, f"{place}/{n}", tuple(t)) for n, t in by_name.items()]
    return text_manifest(name, settings.root, recordings)


def text_manifest(name: str, root: str, recordings: list[Recording]) -> Manifest:
    """A dataset of captions alone; the recordings' paths only make the ids of its clips."""
    pairs = zip(clip_ids(recordings), recordings, strict=True)
    clips = [Clip(clip_id, r.split, "", 0.0, r.captions) for clip_id, r in pairs]
    return Manifest(name, root, check_clips(clips, f"dataset {name}"))


def _captions_by_name(path: Path) -> dict[str, list[str]]:
    official = "youtube_id" in captioned_rows(path, [])[0].values
    found: dict[str, list[str]] = {}
    for row in captioned_rows(path, ["youtube_id", "start_time"] if official else ["file_name"]):
        name = official_names(row, path)[0] if official else sound_name(row, "file_name", path)
        found.setdefault(name, []).extend(captions(row, path, name))
    return found

"""AudioCaps (Kim et al., 2019), in the layouts that its CSV files are found in.

``train.csv``, ``val.csv`` and ``test.csv`` (or ``audiocaps_train.csv`` …), those that exist, are
the splits development, validation and evaluation. Their columns are the official
``audiocap_id, youtube_id, start_time, caption``, or ``file_name`` and ``caption`` (in both, one
caption a row, a clip's rows put together), or ``file_name`` and ``caption_1`` … (one clip a row).
AudioCaps 2.0 (2025) has the same columns and more clips to train on.
The sound lies in ``train/``, ``val/`` and ``test/``.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.config.datasets import AudioCapsDatasetConfig
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.recordings import Recording, files_by_stem, find_file, manifest
from pipeline.corpora.tables import captions, sound_name
from pipeline.errors import EarwitnessError
from pipeline.storage.places import folder_at
from pipeline.tables import Row, caption_columns, captioned_rows

FOLDERS = {"development": "train", "validation": "val", "evaluation": "test"}
KINDS = ("", "audiocaps_", "audiocaps2_")  # what its tables may begin with
EXCERPT = 10  # seconds: a clip is this long from its start_time


def prepare(
    name: str, settings: AudioCapsDatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """The dataset at ``settings.root``, which is relative to ``base`` or absolute.

    Raises:
        EarwitnessError: a table or the sound cannot be used; see tables.py and recordings.py.
    """
    folder = folder_at(base, settings.root)
    recordings: list[Recording] = []
    for split, short in FOLDERS.items():
        tables = [folder / f"{kind}{short}.csv" for kind in KINDS]
        path = next((path for path in tables if path.exists()), None)
        if path is not None:
            recordings += _split(split, path, folder / short)
    if not recordings:
        raise EarwitnessError(
            f"dataset {name}: no train.csv, val.csv or test.csv in {folder}; correct its root"
        )
    longest = settings.longest_minutes
    return manifest(name, settings.root, recordings, base, settings.bad_audio, progress, longest)


def _split(split: str, path: Path, folder: Path) -> list[Recording]:
    files = files_by_stem(folder)
    header = captioned_rows(path, [])[0].values
    official = "youtube_id" in header
    one_a_row = len(caption_columns(header)) == 1

    names_there = {name for each in files.values() for name in each}

    def there(name: str) -> bool:
        return find_file([name], files) in names_there

    by_path: dict[str, list[str]] = {}
    for row in captioned_rows(path, ["youtube_id", "start_time"] if official else ["file_name"]):
        own = [] if official else [sound_name(row, "file_name", path, there)]
        names = own or official_names(row, path)
        key = f"{folder.name}/{find_file(names, files)}"
        if key in by_path and not one_a_row:
            raise EarwitnessError(f"{path}: line {row.line}: {names[0]!r} occurs twice; remove one")
        by_path.setdefault(key, []).extend(captions(row, path, names[0]))
    return [Recording(split, name, tuple(texts)) for name, texts in by_path.items()]


def official_names(row: Row, path: Path) -> list[str]:
    """What the sound of a video's excerpt may be called, without its ending, likeliest first."""
    video = sound_name(row, "youtube_id", path)
    seconds = re.fullmatch(r"([0-9]{1,9})(\.[0-9]*)?", row.values["start_time"])
    if seconds is None:
        raise EarwitnessError(
            f"{path}: line {row.line}: start_time {row.values['start_time']!r} is not a number "
            "of seconds; correct the row"
        )
    start = int(seconds[1])
    stems = [f"{video}_{start}", f"{video}_{start}_{start + EXCERPT}"]
    stems += [f"{video}_{1000 * start}_{1000 * (start + EXCERPT)}", video]
    return [name for stem in stems for name in (f"Y{stem}", stem)]

"""AudioCaps (Kim et al., 2019), in the layouts that its CSV files are found in.

``train.csv``, ``val.csv`` and ``test.csv`` (or ``audiocaps_train.csv`` …), those that are there,
are the splits development, validation and evaluation. Their columns are the official
``audiocap_id, youtube_id, start_time, caption``, or ``file_name`` and ``caption`` (in both, one
caption a row, a clip's rows put together), or ``file_name`` and ``caption_1`` … (one clip a row).
The sound lies in ``train/``, ``val/`` and ``test/``.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config.datasets import AudioCapsDatasetConfig
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.recordings import Recording, manifest
from pipeline.corpora.synthesis.sounds import by_stem, find
from pipeline.corpora.tables import Row, is_caption_column, read_rows, sound_name
from pipeline.errors import EarwitnessError

FOLDERS = {"development": "train", "validation": "val", "evaluation": "test"}
EXCERPT = 10  # seconds: a clip is this long from its start_time


def prepare(
    name: str, settings: AudioCapsDatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """The dataset at ``settings.root``, which is relative to ``base`` or absolute.

    Raises:
        EarwitnessError: a table or the sound cannot be used; see tables.py and recordings.py.
    """
    folder = base / settings.root
    recordings: list[Recording] = []
    for split, short in FOLDERS.items():
        tables = [folder / f"{short}.csv", folder / f"audiocaps_{short}.csv"]
        path = next((path for path in tables if path.exists()), None)
        if path is not None:
            recordings += _split(split, path, folder / short)
    if not recordings:
        raise EarwitnessError(
            f"dataset {name}: no train.csv, val.csv or test.csv in {folder}; correct its root"
        )
    return manifest(name, settings.root, recordings, base, settings.bad_audio, progress)


def _split(split: str, path: Path, folder: Path) -> list[Recording]:
    there = by_stem(folder)
    rows = read_rows(path, [], captions=True)
    official = "youtube_id" in rows[0].values
    one_a_row = sum(map(is_caption_column, rows[0].values)) == 1
    rows = read_rows(path, ["youtube_id", "start_time"] if official else ["file_name"], True)
    captions: dict[str, list[str]] = {}
    for row in rows:
        names = _official_names(row, path) if official else [sound_name(row, "file_name", path)]
        key = f"{folder.name}/{find(names, there)}"
        if key in captions and not one_a_row:
            raise EarwitnessError(f"{path}: line {row.line}: {names[0]!r} stands twice; remove one")
        if not row.captions():
            raise EarwitnessError(
                f"{path}: line {row.line} ({names[0]!r}) has no caption; write one or remove it"
            )
        captions.setdefault(key, []).extend(row.captions())
    return [Recording(split, name, tuple(texts)) for name, texts in captions.items()]


def _official_names(row: Row, path: Path) -> list[str]:
    """What the sound of a video's excerpt may be called, without its ending, likeliest first."""
    video = sound_name(row, "youtube_id", path)
    try:
        start = int(float(row.values["start_time"]))
    except ValueError:
        raise EarwitnessError(
            f"{path}: line {row.line}: start_time {row.values['start_time']!r} is not a number "
            "of seconds; correct the row"
        ) from None
    stems = [f"{video}_{start}", f"{video}_{start}_{start + EXCERPT}"]
    stems += [f"{video}_{1000 * start}_{1000 * (start + EXCERPT)}", video]
    return [name for stem in stems for name in (f"Y{stem}", stem)]

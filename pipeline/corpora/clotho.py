"""Any folder in Clotho's layout (Drossos et al., 2020).

``<split>/`` holds the sound and ``clotho_captions_<split>.csv`` the columns ``file_name`` and
``caption_1`` …, one or more, for those of the splits development, validation and evaluation that
exist. An ``events.csv`` beside them (``file_name``, ``event``, and ``split`` where names repeat
across splits) gives each clip's kinds of event, several rows or several separated by ``;``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.config.datasets import ClothoDatasetConfig
from pipeline.corpora.manifest import SPLITS, Manifest
from pipeline.corpora.recordings import Recording, manifest
from pipeline.corpora.tables import captions, exists, sound_name
from pipeline.errors import EarwitnessError
from pipeline.storage.places import folder_at
from pipeline.tables import captioned_rows, read_rows

TABLE = "clotho_captions_{}.csv"  # of a split
Events = Mapping[tuple[str, str], tuple[str, ...]]  # (split, or "" for any; file name) → events


def prepare(
    name: str, settings: ClothoDatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """The dataset at ``settings.root``, which is relative to ``base`` or absolute.

    Raises:
        EarwitnessError: a table or the sound cannot be used; see tables.py and recordings.py.
    """
    folder = folder_at(base, settings.root)
    if not tables(folder):
        hint = "correct its root" if settings.fetch else "correct its root, or set fetch: true"
        raise EarwitnessError(
            f"dataset {name}: no {TABLE.format(SPLITS[0])} or other split's in {folder}; {hint}"
        )
    longest = settings.longest_minutes
    found = recordings(folder)
    return manifest(name, settings.root, found, base, settings.bad_audio, progress, longest)


def tables(folder: Path) -> dict[str, Path]:
    """Split → its table of captions, of those that are there."""
    paths = {split: folder / TABLE.format(split) for split in SPLITS}
    return {split: path for split, path in paths.items() if path.exists()}


def recordings(folder: Path) -> list[Recording]:
    """What the tables of a folder name.

    Raises:
        EarwitnessError: a table cannot be used; see tables.py.
    """
    kinds = events(
        folder / "events.csv", lambda name: any(exists(folder / split / name) for split in SPLITS)
    )
    return [
        recording
        for split, path in tables(folder).items()
        for recording in _split(split, path, folder / split, kinds)
    ]


def _split(split: str, path: Path, folder: Path, events: Events) -> list[Recording]:
    seen: dict[str, int] = {}
    found = []
    for row in captioned_rows(path, ["file_name"]):
        file_name = sound_name(row, "file_name", path, lambda name: exists(folder / name))
        if file_name in seen:
            raise EarwitnessError(
                f"{path}: {file_name!r} occurs twice, in lines {seen[file_name]} and {row.line}; "
                "remove one"
            )
        seen[file_name] = row.line
        texts = captions(row, path, file_name)
        kinds = events.get((split, file_name), events.get(("", file_name), ()))
        found.append(Recording(split, f"{split}/{file_name}", texts, kinds))
    return found


def events(path: Path, there: Callable[[str], bool]) -> Events:
    """The kinds of event of each clip, by the table at ``path``; none where there is no table.

    Args:
        there: whether there is a sound file of that name.
    """
    if not path.exists():
        return {}
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for row in read_rows(path, ["file_name", "event"]):
        name = sound_name(row, "file_name", path, there)
        key = (row.values.get("split", ""), name)
        kinds = [kind.strip() for kind in row.values["event"].split(";")]
        found[key] = tuple(dict.fromkeys([*found.get(key, ()), *filter(None, kinds)]))
    return found

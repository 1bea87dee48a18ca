"""Any folder of sound with captions, as people have it: in Clotho's layout, or with one table.

The table is the one CSV or TSV file in the folder that has captions: of ``file_name``, or of
AudioCaps' ``youtube_id`` and ``start_time``, in any layout that tables.py knows. The sound lies
anywhere below the folder. A column ``split`` says which clip is in which split; without it the
splits are drawn by a seed. An ``events.csv`` is as in Clotho's layout.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.audio.sound_file import SUFFIXES
from pipeline.config.datasets import FolderDatasetConfig, WebDatasetDatasetConfig
from pipeline.corpora import audiocaps, clotho
from pipeline.corpora.manifest import SPLITS, Manifest
from pipeline.corpora.recordings import Recording, composed, find_file, manifest
from pipeline.corpora.tables import captions, sound_name
from pipeline.errors import EarwitnessError
from pipeline.files import shown
from pipeline.storage.places import StoredPath, folder_at
from pipeline.tables import CAPTION, Row, caption_columns, captioned_rows, read_header

TABLES = (".csv", ".tsv")
EVENTS = "events.csv"
LEAST = 2  # clips in a split: CIDEr-D of one clip cannot be made
SPLIT = "split"  # a table's column, and what may stand in it
CALLED = {
    **{split: split for split in SPLITS},
    **dict.fromkeys(("train", "training"), "development"),
    **dict.fromkeys(("val", "valid"), "validation"),
    **dict.fromkeys(("test", "eval"), "evaluation"),
}


def prepare(
    name: str, settings: FolderDatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """The dataset at ``settings.root``, which is relative to ``base`` or absolute.

    Raises:
        EarwitnessError: see :func:`look`; or the sound cannot be used, see recordings.py.
    """
    found = look(settings, base).recordings
    longest = settings.longest_minutes
    return manifest(name, settings.root, found, base, settings.bad_audio, progress, longest)


class FolderContents(NamedTuple):
    """What is in a folder."""

    recordings: list[Recording]  # all that the tables name
    absent: list[str]  # paths of those without their sound
    unused: int  # sound files without captions


def look(settings: FolderDatasetConfig, base: Path) -> FolderContents:
    """What the folder's table, or tables, name; no sound is decoded.

    Raises:
        EarwitnessError: there is no such folder, no captions or no sound in it; a table cannot be
            used; or a split has fewer than :data:`LEAST` clips whose sound is there.
    """
    root = folder_at(base, settings.root)
    if not root.is_dir():
        raise EarwitnessError(f"{shown(root)}: no such folder; correct the path")
    sound = Sound(root)
    if not sound:
        endings = " ".join(sorted(SUFFIXES))
        raise EarwitnessError(f"{shown(root)}: no sound files in this folder ({endings})")
    if clotho.tables(root):
        found, source = clotho.recordings(root), shown(root)
    else:
        table = find_table(root)
        found, source = _recordings(table, sound, settings), shown(table)
    files = {recording.path: sound.find(recording.path) for recording in found}
    absent = [path for path, named in files.items() if not named]
    if len(absent) == len(files):
        raise EarwitnessError(
            f"{source}: none of the sound of its {len(found)} clips is below {shown(root)}, the "
            f"first is {shown(found[0].path)}; put it there, or correct the names"
        )
    counts = Counter(recording.split for recording in found if files[recording.path])
    for split in SPLITS:
        if counts[split] < LEAST:
            some = ", ".join(f"{counts[each]} of {each}" for each in SPLITS)
            raise EarwitnessError(
                f"{source}: too few clips to train, validate and test on, {some}; each split needs "
                f"{LEAST} or more: add clips of {split}"
            )
    used = {path for named in files.values() for path in named}
    return FolderContents(found, absent, len(sound) - len(used))


def find_table(root: Path) -> Path:
    """The one table with captions in a folder.

    Raises:
        EarwitnessError: there is none, or there are several.
    """
    tables = sorted(
        path
        for path in root.iterdir()
        if path.suffix.lower() in TABLES and path.name != EVENTS and not path.name.startswith(".")
    )
    if len(tables) == 1:
        return tables[0]  # its reader says what is wrong with it
    able = [path for path in tables if _has_captions(path)]
    if len(able) == 1:
        return able[0]
    wanted = "one CSV or TSV file with file_name and caption, or caption_1 …"
    if not able:
        others = f" (of {', '.join(path.name for path in tables)} none is it)" if tables else ""
        raise EarwitnessError(
            f"{shown(root)}: no captions in this folder{others}; put {wanted} there, or Clotho's "
            f"{clotho.TABLE.format('<split>')}"
        )
    raise EarwitnessError(
        f"{shown(root)}: several tables of captions, {', '.join(path.name for path in able)}; keep "
        f"{wanted} and a column {SPLIT} if you like, or Clotho's {clotho.TABLE.format('<split>')}"
    )


def _has_captions(path: Path) -> bool:
    try:
        header = read_header(path)
    except EarwitnessError:
        return False
    named = "file_name" in header or {"youtube_id", "start_time"} <= {*header}
    return named and any(name == "caption" or CAPTION.fullmatch(name) for name in header)


class Sound:
    """The sound files below a folder; linked folders are looked into too, each once."""

    def __init__(self, root: Path) -> None:
        self._paths: set[str] = set()
        self._by_stem: dict[str, dict[str, list[str]]] = {}  # stem → folder → names
        for path in root.files_below() if isinstance(root, StoredPath) else _files_below(root):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                self._paths.add(str(path))
                own = self._by_stem.setdefault(composed(path.stem), {})
                own.setdefault(str(path.parent), []).append(path.name)

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, path: str) -> bool:
        return path in self._paths

    def paths(self) -> list[str]:
        """All of them, below the folder, in the order of their letters."""
        return sorted(self._paths)

    def find(self, name: str) -> list[str]:
        """The files that a table's ``name`` may mean, by their paths below the folder.

        One of exactly that path is meant alone. Else, where ``name`` has a folder, it is looked for
        there, and otherwise in all; of exactly that name, or nearly (:func:`recordings.find_file`).
        """
        path = PurePosixPath(name)
        if str(path) in self._paths:
            return [str(path)]
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
        folders = self._by_stem.get(composed(stem), {})
        if len(path.parts) > 1:
            folders = {at: names for at, names in folders.items() if at == str(path.parent)}
        exact = [at for at, names in folders.items() if path.name in names]
        found = []
        for at in exact or folders:
            file = find_file([path.name], {composed(stem): folders[at]})
            if file in folders[at]:
                found.append(str(PurePosixPath(at) / file))
        return found


def _files_below(root: Path) -> Iterator[PurePosixPath]:
    """The files at any depth, but in hidden folders; linked folders are looked into, each once."""
    seen: set[str] = set()
    for place, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folder = PurePosixPath(os.path.relpath(place, root))
        yield from (folder / name for name in sorted(names))


def _recordings(table: Path, sound: Sound, settings: FolderDatasetConfig) -> list[Recording]:
    """The clips of one table, in their order, each in its split."""
    header = read_header(table)
    rows = captioned_rows(table, _named_by(header))
    one_a_row = len(caption_columns(rows[0].values)) == 1
    kinds = clotho.events(table.parent / EVENTS, lambda name: bool(sound.find(name)))
    clips: dict[str, Recording] = {}
    for row in rows:
        name, path = _sound_of(row, table, sound)
        split = _split_of(row, table) if SPLIT in row.values else ""
        texts, before = captions(row, table, name), clips.get(path)
        if before is None:
            events = kinds.get((split, name), kinds.get(("", name), ()))
            clips[path] = Recording(split, path, texts, events)
        elif not one_a_row:
            raise EarwitnessError(f"{table}: line {row.line}: {name!r} occurs twice; remove one")
        elif before.split != split:
            raise EarwitnessError(
                f"{table}: line {row.line}: {name!r} is in {split} and in {before.split}; correct "
                f"the column {SPLIT}"
            )
        else:
            clips[path] = replace(before, captions=(*before.captions, *texts))
    if SPLIT in header:
        return list(clips.values())
    there = {path for path in clips if path in sound}
    splits = draw_splits(clips, settings, there)
    return [replace(recording, split=splits[path]) for path, recording in clips.items()]


def _named_by(header: Sequence[str]) -> list[str]:
    """The columns that name the sound."""
    official = "youtube_id" in header and "file_name" not in header
    return ["youtube_id", "start_time"] if official else ["file_name"]


def _sound_of(row: Row, table: Path, sound: Sound) -> tuple[str, str]:
    """What a row calls its sound, and the path of the file; of one that is not there, the name."""
    if "file_name" in row.values:
        names = [sound_name(row, "file_name", table, lambda name: name in sound)]
    else:
        names = audiocaps.official_names(row, table)
    for name in names:
        found = sound.find(name)
        if len(found) > 1:
            raise EarwitnessError(
                f"{table}: line {row.line}: {name!r} is {' and '.join(found)}; write the folder "
                "before the name"
            )
        if found:
            return names[0], found[0]
    return names[0], names[0]


def _split_of(row: Row, table: Path) -> str:
    word = row.values[SPLIT].lower()
    if word not in CALLED:
        raise EarwitnessError(
            f"{table}: line {row.line}: split {row.values[SPLIT]!r} is none of "
            f"{', '.join(CALLED)}; correct it, or rename the column"
        )
    return CALLED[word]


def draw_splits(
    paths: Iterable[str],
    settings: FolderDatasetConfig | WebDatasetDatasetConfig,
    there: Iterable[str],
) -> Mapping[str, str]:
    """The split of each clip, by a hash of its path without the ending, and of the seed.

    So a clip stays where it is when others are added or removed, and when its sound is converted.
    Evaluation has the lowest hashes, then comes validation: the shares of them that are expected,
    but :data:`LEAST` clips of ``there`` in any case.
    """

    def place(path: str) -> float:
        name = composed(str(PurePosixPath(path).with_suffix("")))
        digest = hashlib.sha256(f"{settings.seed} {name}".encode("utf-8", "surrogatepass"))
        return int.from_bytes(digest.digest()[:8], "big") / 2**64

    places = {path: place(path) for path in paths}
    known = sorted(places[path] for path in there)
    evaluation = max(settings.evaluation, _least(known, -1.0))
    validation = max(settings.evaluation + settings.validation, _least(known, evaluation))
    return {
        path: "evaluation"
        if at <= evaluation
        else "validation"
        if at <= validation
        else "development"
        for path, at in places.items()
    }


def _least(places: Sequence[float], end: float) -> float:
    """The last of the :data:`LEAST` places that come behind ``end``; 1 where they are fewer."""
    behind = [place for place in places if place > end]
    return behind[LEAST - 1] if len(behind) >= LEAST else 1.0

"""Recordings without captions: a challenge's blind test, or any folder to caption or to search.

A dataset becomes a blind one only by its layout: one of another layout that lost its captions is an
error as ever. Captions in its table are not read, so that one with captions can be rehearsed on.

``table`` (``file_name``) says which recordings below the root are in the set, and in which order;
without it all are. ``queries`` (``caption``, or ``caption_1`` …, as in DCASE's
``retrieval_captions.csv``) has what is searched for: each becomes a clip without sound, so that it
is embedded as captions are. Which recording answers a query is not known.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.audio.sound_file import SUFFIXES
from pipeline.config.datasets import BlindDatasetConfig
from pipeline.corpora.folder import Sound
from pipeline.corpora.manifest import Clip, Manifest, check_clips
from pipeline.corpora.recordings import Recording, manifest
from pipeline.corpora.tables import sound_name
from pipeline.errors import EarwitnessError
from pipeline.files import inside, shown
from pipeline.storage.places import folder_at
from pipeline.storage.stored import plain
from pipeline.tables import caption_columns, captioned_rows, read_rows

SPLIT = "evaluation"  # of all its clips
NOT_IN_NAMES = re.compile(r'[:*?"<>|\\]')  # archives write "_" for what Windows refuses in a name


def prepare(
    name: str, settings: BlindDatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """The dataset at ``settings.root``, which is relative to ``base`` or absolute.

    Raises:
        EarwitnessError: there is no such folder, or no sound in it; a table cannot be used, see
            tables.py; or the sound cannot, see recordings.py.
    """
    root = folder_at(base, settings.root)
    if not root.is_dir():
        raise EarwitnessError(f"{shown(root)}: no such folder; correct datasets.{name}.root")
    sound = Sound(root)
    if not sound:
        endings = " ".join(sorted(SUFFIXES))
        raise EarwitnessError(f"{shown(root)}: no sound files in this folder ({endings})")
    where = f"datasets.{name}"
    called = {path: path for path in sound.paths()}
    if settings.table is not None:
        called = _listed(inside(root, settings.table, f"{where}.table"), sound)
    found = manifest(
        name,
        settings.root,
        [Recording(SPLIT, path, ()) for path in called],
        base,
        settings.bad_audio,
        progress,
        settings.longest_minutes,
    )
    clips = [
        replace(clip, name=_own_name(called.get(plain(clip.path), ""), clip))
        for clip in found.clips
    ]
    if settings.queries is not None:
        clips += _queries(inside(root, settings.queries, f"{where}.queries"))
    checked = check_clips(clips, f"dataset {name}")
    return replace(found, clips=checked, blind=True)


def _listed(table: Path, sound: Sound) -> dict[str, str]:
    """The path of each recording that a table lists, and what the table calls it."""
    called: dict[str, str] = {}
    for row in read_rows(table, ["file_name"]):
        where = f"{table}: line {row.line}"
        name = sound_name(row, "file_name", table, lambda name: name in sound)
        found = sound.find(name) or sound.find(NOT_IN_NAMES.sub("_", name))
        if len(found) > 1:
            raise EarwitnessError(
                f"{where}: {name!r} is {' and '.join(found)}; write the folder before the name"
            )
        path = found[0] if found else name  # one that is not there is said with all others
        if path in called:
            raise EarwitnessError(f"{where}: {name!r} occurs twice; remove one")
        called[path] = name
    return called


def _own_name(name: str, clip: Clip) -> str:
    """What the table calls a recording; nothing where the file is called so."""
    return "" if name in (plain(clip.path), PurePosixPath(clip.path).name) else name


def _queries(table: Path) -> list[Clip]:
    """A clip without sound for each caption, in the table's order."""
    rows = captioned_rows(table, [])
    texts = []
    for row in rows:
        asked = [row.values[name] for name in caption_columns(row.values) if row.values[name]]
        if not asked:
            raise EarwitnessError(f"{table}: line {row.line} has no caption; add one or remove it")
        texts += asked  # to the letter: a submission names queries by their text
    return [
        Clip(f"query-{number:05d}", SPLIT, "", 0.0, (text,))
        for number, text in enumerate(texts, start=1)
    ]

"""Tar shards in WebDataset's form (as LAION-Audio-630K has them), or folders with the same files.

A clip is a sound file and, of the same name up to its first point, a ``.json`` or ``.txt`` beside
it: ``0001.flac`` and ``0001.json``. The JSON has ``captions``, ``caption`` or ``text``, a text or a
list of them, and may have ``split`` and ``tags``; a ``.txt`` has a caption a line. Where no JSON
says the split, the shard does, or a folder above it (``train-000000.tar``, ``valid/0.tar``), and
where none of them do it is drawn by a seed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.config.datasets import WebDatasetDatasetConfig
from pipeline.corpora.folder import CALLED, Sound, draw_splits
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.recordings import Recording, manifest
from pipeline.errors import EarwitnessError
from pipeline.files import read_json, read_text, shown
from pipeline.storage.places import StoredPath, folder_at

CAPTIONS = ("captions", "caption", "text")  # keys of a clip's JSON, the first that is there
TAGS = ("tags", "tag")
HINT = "correct it"
BYTES = 1 << 20  # of a clip's JSON or text


def prepare(
    name: str, settings: WebDatasetDatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """The dataset at ``settings.root``: a pattern of shards, an address or a folder.

    Raises:
        EarwitnessError: there is no such root or no sound in it; a clip has no captions, or two
            sound files; or its sound cannot be used, see recordings.py.
    """
    root = folder_at(base, settings.root)
    sound = Sound(root)
    if not sound:
        raise EarwitnessError(f"{shown(root)}: no sound there; correct datasets.{name}.root")
    found: dict[str, Recording] = {}
    for path in sound.paths():
        key = _key(PurePosixPath(path))
        if key in found:
            raise EarwitnessError(f"{shown(root / path)}: another sound file of its name is there")
        found[key] = _recording(root, path, key)
    recordings = _with_splits(list(found.values()), root, settings)
    longest = settings.longest_minutes
    return manifest(name, settings.root, recordings, base, settings.bad_audio, progress, longest)


def _key(path: PurePosixPath) -> str:
    return str(path.with_name(path.name.split(".")[0] or path.name))


def _recording(root: Path, path: str, key: str) -> Recording:
    """A clip by the file beside it; its split is empty where that says none."""
    table, plain = root / f"{key}.json", root / f"{key}.txt"
    if table.is_file():
        values = read_json(table, HINT)
        if not isinstance(values, Mapping):
            raise EarwitnessError(f"{shown(table)}: no JSON object; {HINT}")
        given = next((values[key] for key in CAPTIONS if values.get(key)), None)
        captions = _texts(given, table, "captions")
        tags = _texts(next((values[key] for key in TAGS if values.get(key)), None), table, "tags")
        return Recording(_split(values.get("split"), table), path, captions, tags)
    if not plain.is_file():
        raise EarwitnessError(f"{shown(root / path)}: neither .json nor .txt beside it; add one")
    lines = read_text(plain, HINT, BYTES).splitlines()
    return Recording("", path, _texts(lines, plain, "captions"))


def _texts(given: Any, source: Path, what: str) -> tuple[str, ...]:
    """Those that are not empty; of captions there must be one."""
    texts = [given] if isinstance(given, str) else [] if given is None else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise EarwitnessError(f"{shown(source)}: {what} are no text and no list of texts; {HINT}")
    kept = tuple(filter(None, (" ".join(text.split()) for text in texts)))
    if not kept and what == "captions":
        raise EarwitnessError(f"{shown(source)}: has no caption; write one")
    return tuple(dict.fromkeys(kept)) if what == "tags" else kept


def _split(word: Any, source: Path) -> str:
    if word is None:
        return ""
    if not isinstance(word, str) or word.lower() not in CALLED:
        raise EarwitnessError(
            f"{shown(source)}: split {word!r} is none of {', '.join(CALLED)}; {HINT}"
        )
    return CALLED[word.lower()]


def _with_splits(
    recordings: list[Recording], root: Path, settings: WebDatasetDatasetConfig
) -> list[Recording]:
    """Each in the split that its JSON, its shard or a folder says; all drawn where none does."""
    splits = [one.split or _named(root, one.path) for one in recordings]
    if not any(splits):
        paths = [one.path for one in recordings]
        drawn = draw_splits(paths, settings, paths)
        splits = [drawn[path] for path in paths]
    if not all(splits):
        path = recordings[splits.index("")].path
        raise EarwitnessError(
            f"{shown(root / path)}: nothing says its split, as it does of others; name its shard "
            "train-…, valid-… or test-…, or write `split` into its JSON"
        )
    return [replace(one, split=split) for one, split in zip(recordings, splits, strict=True)]


def _named(root: Path, path: str) -> str:
    """The split by the names of the shard and of the folders above; empty where they say none."""
    place, above = root / path, PurePosixPath(path).parent
    if isinstance(place, StoredPath) and place.entry is not None and place.entry.stored.member:
        above = PurePosixPath(place.entry.path.partition("!")[0])
    words = (re.split(r"[-_.0-9]", part.lower())[0] for part in reversed(above.parts))
    return next((CALLED[word] for word in words if word in CALLED), "")

"""The recordings that a dataset's tables name, as clips whose sound was decoded completely."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

from tqdm import tqdm

from pipeline.audio import waveforms
from pipeline.audio.sound_file import SUFFIXES
from pipeline.corpora.manifest import Clip, Manifest, check_clips
from pipeline.errors import EarwitnessError
from pipeline.files import leads_inside, sha256, shown
from pipeline.limits import LONGEST_MINUTES
from pipeline.storage.listing import THREADS
from pipeline.storage.places import StoredPath, folder_at
from pipeline.storage.remote import StorageError
from pipeline.storage.urls import is_url
from pipeline.threads import share

PART = 1 << 12  # recordings that wait to be decoded: each has an object in a queue


@dataclass(frozen=True)
class Recording:
    """What a dataset's table says of one clip: ``path`` below the dataset's root."""

    split: str
    path: str
    captions: tuple[str, ...]
    events: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Decoded:
    seconds: float = 0.0
    digest: str = ""
    problem: str = ""
    path: str = ""  # below the root, where it is another than the table's


def manifest(
    name: str,
    root: str,
    recordings: Sequence[Recording],
    base: Path,
    bad_audio: Literal["refuse", "skip"],
    progress: bool = True,
    longest_minutes: float = LONGEST_MINUTES,
) -> Manifest:
    """Decodes every recording, in threads, and keeps those without a fault.

    Of what lies in object storage only the headers are read, where they tell how long it is.

    A recording that has another ending than the table says, or another form of its letters, is
    found: see :func:`find_file`.

    Args:
        name: the dataset's.
        root: folder of the dataset, relative to ``base`` or absolute; or see storage/urls.py.
        bad_audio: stop at sound that cannot be used, or list it in ``Manifest.skipped``.
        progress: show a bar on a terminal.
        longest_minutes: longer sound cannot be used.

    Raises:
        EarwitnessError: sound that cannot be used with ``refuse``, or a split without any that can.
    """
    for recording in recordings:
        if not leads_inside(recording.path):
            path = shown(recording.path)
            raise EarwitnessError(f"dataset {name}: path '{path}' leaves {root}; correct the row")
    folder = folder_at(base, root)
    recordings = _located(recordings, folder)
    paths = [folder / recording.path for recording in recordings]
    longest = 60 * longest_minutes
    with ThreadPoolExecutor(THREADS if is_url(root) else share(32)) as threads:
        quiet = None if progress else True
        parts = (paths[at : at + PART] for at in range(0, len(paths), PART))
        results = (
            one for part in parts for one in threads.map(lambda path: _decode(path, longest), part)
        )
        decoded = list(tqdm(results, name, len(paths), disable=quiet, unit="clip"))
    skipped = [
        (recording.path, one.problem)
        for recording, one in zip(recordings, decoded, strict=True)
        if one.problem
    ]
    if skipped:
        _report(name, skipped, bad_audio, len(recordings))
    clips = [
        Clip(clip_id, r.split, one.path or r.path, one.seconds, r.captions, r.events, one.digest)
        for clip_id, r, one in zip(clip_ids(recordings), recordings, decoded, strict=True)
        if not one.problem
    ]
    used = {clip.split for clip in clips}
    lost = next((r for r in recordings if r.split not in used), None)
    if lost is not None:
        raise EarwitnessError(
            f"dataset {name}: none of the sound of split {lost.split} can be used; "
            f"the first is {lost.path}: {dict(skipped)[lost.path]}"
        )
    return Manifest(name, root, check_clips(clips, f"dataset {name}"), tuple(skipped))


def clip_ids(recordings: Sequence[Recording]) -> list[str]:
    """A safe and unique name for each recording.

    A safe file name is kept. One that must be changed to be safe, or that several recordings share
    (in another folder, with another ending, or in other capitals), gets eight digits of its path's
    digest; so a name depends on the other rows only where they share it.
    """
    safe = [_safe(PurePosixPath(recording.path).stem) for recording in recordings]
    shared = Counter(name.casefold() for name in safe)
    return [
        name
        if name == PurePosixPath(recording.path).stem and shared[name.casefold()] == 1
        else f"{name}-{hashlib.sha256(recording.path.encode()).hexdigest()[:8]}"
        for name, recording in zip(safe, recordings, strict=True)
    ]


def _safe(stem: str) -> str:
    """ASCII letters without their accents, digits, and one ``-`` for each run of anything else."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", plain).lstrip("._+-").rstrip("-")
    return name[:80] or "clip"


def _decode(path: Path, longest: float) -> _Decoded:
    if isinstance(path, StoredPath):
        return _read_stored(path, longest)
    try:
        return _Decoded(waveforms.verify(path, longest), sha256(path))
    except EarwitnessError as error:
        return _Decoded(problem=str(error).removeprefix(f"{shown(path)}: "))


def _read_stored(path: StoredPath, longest: float) -> _Decoded:
    """As :func:`_decode`; what has no version, a tar on this machine, is read completely."""
    entry = path.entry
    if entry is None:
        return _Decoded(problem="not there; check the name")
    sound = entry.stored
    try:
        if entry.version:
            return _Decoded(waveforms.probe(sound, longest), entry.version, path=entry.path)
        sound = sound.fetched()
        seconds = waveforms.verify(sound, longest)
        with sound.open() as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return _Decoded(seconds, digest, path=entry.path)
    except StorageError:  # of the storage, and not of one recording
        raise
    except EarwitnessError as error:
        return _Decoded(problem=str(error).removeprefix(f"{shown(str(sound))}: "))


def _report(name: str, skipped: Sequence[tuple[str, str]], bad_audio: str, total: int) -> None:
    path, problem = skipped[0]
    count = f"{len(skipped)} of {total} sound files cannot be used"
    if bad_audio == "refuse":
        raise EarwitnessError(
            f"dataset {name}: {count}, the first is {path}: {problem}; "
            "repair them, or set bad_audio: skip"
        )
    warnings.warn(
        f"dataset {name}: {count} and were left out (listed in its manifest), "
        f"the first is {path}: {problem}",
        stacklevel=3,
    )


def _located(recordings: Sequence[Recording], root: Path) -> list[Recording]:
    """The recordings with the names that their files have; what is not there keeps its own.

    A file that one row names exactly is not another row's too.
    """
    files = cache(lambda folder: files_by_stem(root / folder))
    there = [_is_there(root / recording.path) for recording in recordings]
    taken = {each.path for each, exact in zip(recordings, there, strict=True) if exact}
    located = []
    for recording, exact in zip(recordings, there, strict=True):
        path = PurePosixPath(recording.path)
        if not exact:
            found = str(path.with_name(find_file([path.name], files(path.parent))))
            if found not in taken:
                taken.add(found)
                recording = replace(recording, path=found)
        located.append(recording)
    return located


def _is_there(path: Path) -> bool:
    return path.exists() if isinstance(path, StoredPath) else os.path.lexists(path)


def files_by_stem(folder: Path) -> Mapping[str, Sequence[str]]:
    """Stem, in composed letters (NFC) → the names of a folder's sound files with that stem."""
    if not folder.is_dir():
        return {}
    found: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(composed(path.stem), []).append(path.name)
    return found


def find_file(names: Sequence[str], files: Mapping[str, Sequence[str]]) -> str:
    """The file that one of ``names`` means, where people have converted or renamed the sound.

    Of several with the same stem it is the one of exactly that name; else of that name in composed
    or decomposed letters; else with that ending in other capitals; else with another ending, the
    first in SUFFIXES. Where two are equally near, none is meant.

    Args:
        names: what the file may be called, with its ending or without, likeliest first; where no
            file matches, the first of them is returned.
        files: of :func:`files_by_stem`.
    """
    for name in names:
        path = PurePosixPath(name)
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
        if len(path.parts) == 1 and (found := _nearest(name, files.get(composed(stem), ()))):
            return found
    return names[0]


def _nearest(name: str, files: Sequence[str]) -> str | None:
    """The one file that is nearest to ``name``, of those with its stem; None where two are."""

    def distance(file: str) -> tuple[bool, bool, bool, int]:
        ending = PurePosixPath(file).suffix.lower()
        same = composed(file) == composed(name)
        near = PurePosixPath(name).suffix.lower() == ending
        return file != name, not same, not near, SUFFIXES.index(ending)

    ranked = sorted(files, key=distance)
    if len(ranked) > 1 and distance(ranked[0]) == distance(ranked[1]):
        return None
    return ranked[0] if ranked else None


def composed(name: str) -> str:
    """A name with composed letters: é is one, and not e with an accent."""
    return unicodedata.normalize("NFC", name)

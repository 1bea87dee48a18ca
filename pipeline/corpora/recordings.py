"""The recordings that a dataset's tables name, as clips whose sound was decoded completely."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from tqdm import tqdm

from pipeline import audio
from pipeline.corpora.manifest import Clip, Manifest, check_clips
from pipeline.errors import EarwitnessError
from pipeline.files import sha256
from pipeline.threads import share

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")


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


def manifest(
    name: str,
    root: str,
    recordings: Sequence[Recording],
    base: Path,
    bad_audio: Literal["refuse", "skip"],
    progress: bool = True,
) -> Manifest:
    """Decodes every recording, in threads, and keeps those without a fault.

    Args:
        name: the dataset's.
        root: folder of the dataset, relative to ``base`` or absolute.
        bad_audio: stop at sound that cannot be used, or list it in ``Manifest.skipped``.
        progress: show a bar on a terminal.

    Raises:
        EarwitnessError: sound that cannot be used with ``refuse``, or a split without any that can.
    """
    paths = [base / root / recording.path for recording in recordings]
    with ThreadPoolExecutor(share(32)) as threads:
        quiet = None if progress else True
        results = threads.map(_decode, paths)
        decoded = list(tqdm(results, name, len(paths), disable=quiet, unit="clip"))
    skipped = [
        (recording.path, one.problem)
        for recording, one in zip(recordings, decoded, strict=True)
        if one.problem
    ]
    if skipped:
        _report(name, skipped, bad_audio, len(recordings))
    clips = [
        Clip(clip_id, r.split, r.path, one.seconds, r.captions, r.events, one.digest)
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


def _decode(path: Path) -> _Decoded:
    try:
        return _Decoded(audio.verify(path), sha256(path))
    except EarwitnessError as error:
        return _Decoded(problem=str(error).removeprefix(f"{path}: "))


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


def files_by_stem(folder: Path) -> Mapping[str, str]:
    """Stem → name of the sound files in a folder; of several endings the first in SUFFIXES."""
    if not folder.is_dir():
        return {}
    names = [path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    names.sort(key=lambda name: (-SUFFIXES.index(PurePosixPath(name).suffix.lower()), name))
    return {PurePosixPath(name).stem: name for name in names}


def find_file(names: Sequence[str], files: Mapping[str, str]) -> str:
    """The file that one of ``names`` means, where people have converted or renamed the sound.

    Args:
        names: what the file may be called, with its ending or without, likeliest first; where no
            file matches, the first of them is returned.
        files: of :func:`files_by_stem`.
    """
    for name in names:
        path = PurePosixPath(name)
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
        if len(path.parts) == 1 and stem in files:
            return files[stem]
    return names[0]

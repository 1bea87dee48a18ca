"""The sounds that people give: files, folders of them, and arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audio import waveforms
from pipeline.audio.sound_file import SUFFIXES, SoundFile
from pipeline.errors import EarwitnessError
from pipeline.files import shown
from pipeline.storage.stored import Stored
from pipeline.storage.urls import is_url
from pipeline.threads import share

Sound = str | os.PathLike[str] | Stored | NDArray[Any]
# sound that libsndfile does not know: it is found too, so that its absence is told
OTHER_SOUND = frozenset(
    (".m4a", ".m4b", ".aac", ".wma", ".amr", ".ape", ".wv", ".mka", ".ac3", ".dsf", ".tta", ".mpc")
)
SEARCHED = OTHER_SOUND.union(SUFFIXES)


def read_sounds(
    sounds: Sequence[Sound], sample_rate: int | None
) -> list[SoundFile | waveforms.Waveform]:
    """Files as paths, addresses such as ``s3://bucket/a.wav`` as stored, arrays as waveforms.

    Raises:
        EarwitnessError: one sound and no list of them, arrays without ``sample_rate``, or an array
            that is no sound; the message says which.
    """
    if isinstance(sounds, str | os.PathLike | Stored | np.ndarray):
        raise EarwitnessError("one sound is given where a list is needed; give [sound]")
    read: list[SoundFile | waveforms.Waveform] = []
    for number, sound in enumerate(sounds):
        if isinstance(sound, Stored):
            read.append(sound)
        elif isinstance(sound, str) and is_url(sound):
            read.append(Stored(sound))
        elif isinstance(sound, str | os.PathLike):
            read.append(Path(sound))
        elif sample_rate is None:
            raise EarwitnessError(f"sounds[{number}]: an array needs sample_rate, in Hz")
        else:
            read.append(waveforms.waveform(np.asarray(sound), sample_rate, f"sounds[{number}]"))
    return read


def decodable(files: Sequence[Path], longest_minutes: float) -> tuple[list[Path], list[str]]:
    """The files that can be decoded, and the reasons of those that cannot, a line each."""
    with ThreadPoolExecutor(share(8)) as pool:
        problems = [*pool.map(lambda path: _problem(path, 60 * longest_minutes), files)]
    sound = [path for path, problem in zip(files, problems, strict=True) if problem is None]
    return sound, [problem for problem in problems if problem is not None]


def _problem(path: Path, longest: float) -> str | None:
    try:
        waveforms.verify(path, longest)
    except EarwitnessError as error:
        return str(error)
    return None


def sound_files(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files, each once, with those of folders in their place; and the folders without any.

    A folder is searched to its depth, in order of name, linked folders too, each once; what is
    hidden, and files without a sound file's ending, are passed over.
    """
    found: list[Path] = []
    problems: list[str] = []
    for path in files:
        if not path.is_dir():
            found.append(path)
            continue
        own = _walk(path, problems)
        found += own
        if not own:
            endings = " ".join(sorted(SUFFIXES))
            problems.append(f"{shown(path)}: no sound files in this folder ({endings})")
    return [*dict.fromkeys(found)], problems


def _walk(top: Path, problems: list[str]) -> list[Path]:
    """Sound files below a folder; what cannot be looked into is added to ``problems``."""

    def failed(error: OSError) -> None:
        problems.append(f"{shown(error.filename)}: cannot be read ({error.strerror})")

    found: list[Path] = []
    waiting, seen = [top], set()
    for start in waiting:  # which grows: links come last, so a folder has the name where it is
        for place, folders, names in os.walk(start, onerror=failed):
            if (own := os.path.realpath(place)) in seen:
                folders.clear()
                continue
            seen.add(own)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            waiting += [Path(place, name) for name in folders if Path(place, name).is_symlink()]
            found += [Path(place, name) for name in names if is_sound(name)]
    return sorted(found)


def is_sound(name: str) -> bool:
    """Whether a file has a sound's ending, and is not hidden."""
    return not name.startswith(".") and Path(name).suffix.lower() in SEARCHED

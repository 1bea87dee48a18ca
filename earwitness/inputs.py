"""The sounds that people give: files, folders of them, and arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import audio
from pipeline.errors import EarwitnessError

Sound = str | os.PathLike[str] | NDArray[Any]
SUFFIXES = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"))


def read_sounds(sounds: Sequence[Sound], sample_rate: int | None) -> list[Path | audio.Waveform]:
    """Files as paths, arrays as checked waveforms.

    Raises:
        EarwitnessError: one sound and no list of them, arrays without ``sample_rate``, or an array
            that is no sound; the message says which.
    """
    if isinstance(sounds, str | os.PathLike | np.ndarray):
        raise EarwitnessError("one sound is given where a list is needed; give [sound]")
    read: list[Path | audio.Waveform] = []
    for number, sound in enumerate(sounds):
        if isinstance(sound, str | os.PathLike):
            read.append(Path(sound))
        elif sample_rate is None:
            raise EarwitnessError(f"sounds[{number}]: an array needs sample_rate, in Hz")
        else:
            read.append(audio.waveform(np.asarray(sound), sample_rate, f"sounds[{number}]"))
    return read


def decodable(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files that can be decoded, and the reasons of those that cannot, a line each."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        problems = [*pool.map(_problem, files)]
    sound = [path for path, problem in zip(files, problems, strict=True) if problem is None]
    return sound, [problem for problem in problems if problem is not None]


def _problem(path: Path) -> str | None:
    try:
        audio.verify(path)
    except EarwitnessError as error:
        return str(error)
    return None


def sound_files(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files, each once, with those of folders in their place; and the folders without any.

    A folder is searched to its depth, in order of name; what is hidden, and files without a sound
    file's ending, are passed over.
    """
    found: list[Path] = []
    empty = []
    for path in files:
        own = _walk(path) if path.is_dir() else [path]
        found += own
        if not own:
            empty.append(f"{path}: no sound files in this folder ({' '.join(sorted(SUFFIXES))})")
    return [*dict.fromkeys(found)], empty


def _walk(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(found)

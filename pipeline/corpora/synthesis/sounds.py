"""Which sound file a table means, where people have converted or renamed them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")


def by_stem(folder: Path) -> Mapping[str, str]:
    """Stem → file name of the sound files in a folder; with several endings, by SUFFIXES' order."""
    if not folder.is_dir():
        return {}
    names = [path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    names.sort(key=lambda name: (-SUFFIXES.index(PurePosixPath(name).suffix.lower()), name))
    return {PurePosixPath(name).stem: name for name in names}


def find(names: Sequence[str], there: Mapping[str, str]) -> str:
    """The file that one of ``names`` means, else the first name, which will be found missing.

    Args:
        names: what the file may be called, with its ending or without, likeliest first.
        there: of :func:`by_stem`.
    """
    for name in names:
        path = PurePosixPath(name)
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
        if len(path.parts) == 1 and stem in there:
            return there[stem]
    return names[0]

"""What a person names on the command line: files, folders, patterns and standard input."""

from __future__ import annotations

import glob
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import NamedTuple

from earwitness.inputs import is_sound, sound_files
from pipeline.errors import EarwitnessError
from pipeline.files import shown

STDIN = "-"
WILD = "*?["


class NamedSound(NamedTuple):
    """A sound file, and where it lies below what was named: the place of its sidecar in a folder.

    Of standard input ``path`` is a copy.
    """

    path: Path
    below: PurePath
    name: str  # as a person knows it


@contextmanager
def named_sounds(names: Sequence[str]) -> Iterator[tuple[list[NamedSound], list[str]]]:
    """The sounds, each once, in the order named; and what is named and has none, a line each.

    A folder is searched to its depth. A pattern (``*``, ``**``, ``?``, ``[…]``) that is no file's
    name is looked up as a shell does it; it finds sound files, and folders. ``-`` is standard
    input: its copy lasts as long as the block.

    Raises:
        EarwitnessError: standard input is a terminal, or is named twice.
    """
    if names.count(STDIN) > 1:
        raise EarwitnessError("- is given twice; standard input can be read once")
    found: dict[Path, NamedSound] = {}
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="earwitness-") as folder:
        for name in names:
            if name == STDIN:
                copy = _copied(Path(folder) / "standard input")
                own = [NamedSound(copy, PurePath("stdin"), STDIN)]
            else:
                own = _below(name, len(names) > 1, problems)
            for sound in own:
                found.setdefault(sound.path, sound)
        yield [*found.values()], problems


def _copied(path: Path) -> Path:
    if sys.stdin is None or sys.stdin.isatty():
        raise EarwitnessError("-: standard input is closed, or a terminal; pipe sound into it")
    with path.open("wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    return path


def _below(name: str, several: bool, problems: list[str]) -> list[NamedSound]:
    """The sounds of one name; ``several``: there are others, so a folder's own name counts."""
    if not name:  # of a variable that is not set; its path would be this folder
        problems.append("a path is empty; check what was given")
        return []
    path = Path(name)
    if path.is_dir():
        return _inside(path, [path], several, problems)
    if not path.exists() and any(mark in name for mark in WILD):
        names = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - as shells, no hidden ones
        matches = [Path(each) for each in names]
        wanted = [each for each in matches if each.is_dir() or is_sound(each.name)]
        if not wanted:
            problems.append(f"{shown(name)}: no sound file has such a name; check the pattern")
        first = next(n for n, part in enumerate(path.parts) if {*part} & {*WILD})
        return _inside(Path(*path.parts[:first]), wanted, several, problems)
    as_typed = not path.is_absolute() and ".." not in path.parts
    return [NamedSound(path, PurePath(path) if as_typed else PurePath(path.name), name)]


def _inside(
    top: Path, files: Sequence[Path], several: bool, problems: list[str]
) -> list[NamedSound]:
    sounds, empty = sound_files(files)
    problems += empty
    above = PurePath(top.resolve().name) if several else PurePath()
    return [NamedSound(path, above / path.relative_to(top), str(path)) for path in sounds]

"""What the tables of datasets have in common: captions, and names of sound files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from pipeline.errors import EarwitnessError
from pipeline.tables import Row, caption_columns


def captions(row: Row, source: Path, file_name: str) -> tuple[str, ...]:
    """A row's captions in the columns' order, without empty ones; none at all is an error."""
    texts = [" ".join(row.values[name].split()) for name in caption_columns(row.values)]
    if not any(texts):
        raise EarwitnessError(
            f"{source}: line {row.line} ({file_name!r}) has no caption; write one or remove it"
        )
    return tuple(filter(None, texts))


def sound_name(
    row: Row, column: str, source: Path, there: Callable[[str], bool] = lambda name: False
) -> str:
    """A row's file name, refused where it is empty or leaves the dataset's folder.

    Args:
        there: whether there is a file of that name; one with spaces around it keeps them then.
    """
    where = f"{source}: line {row.line}"
    name = checked_name(row.values[column], column, where)
    spaced = row.spaced.get(column, name)
    return spaced if spaced != name and there(spaced) else name


def exists(path: Path) -> bool:
    """Whether there is a file; there is none whose name is too long for the file system."""
    try:
        return path.exists()
    except OSError:
        return False


def checked_name(name: str, field: str, where: str) -> str:
    """``name``, refused where it is empty or leaves the dataset's folder."""
    path = PurePosixPath(name)
    if not name.strip():
        raise EarwitnessError(f"{where} has no {field}; correct it")
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise EarwitnessError(f"{where}: {field} {name!r} leaves the dataset's folder; correct it")
    return name

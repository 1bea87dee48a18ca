"""What the tables of datasets have in common: captions by column, and names of sound files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.errors import EarwitnessError
from pipeline.tables import Row, check_columns, read_rows


def captioned_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a CSV file with ``columns`` and a column ``caption``, or ``caption_1`` ….

    Raises:
        EarwitnessError: see :func:`pipeline.tables.read_rows`.
    """
    rows = read_rows(path, columns, short_rows=True)
    header = list(rows[0].values)
    if not any(map(is_caption_column, header)):
        check_columns(path, header, ["caption_1"])
    return rows


def is_caption_column(name: str) -> bool:
    return name == "caption" or name.startswith("caption_")


def captions(row: Row, source: Path, file_name: str) -> tuple[str, ...]:
    """A row's captions in the columns' order, without empty ones; none at all is an error."""
    texts = [" ".join(text.split()) for name, text in row.values.items() if is_caption_column(name)]
    if not any(texts):
        raise EarwitnessError(
            f"{source}: line {row.line} ({file_name!r}) has no caption; write one or remove it"
        )
    return tuple(filter(None, texts))


def sound_name(row: Row, column: str, source: Path) -> str:
    """A row's file name, refused where it is empty or leaves the dataset's folder."""
    return checked_name(row.values[column], column, f"{source}: line {row.line}")


def checked_name(name: str, field: str, where: str) -> str:
    """``name``, refused where it is empty or leaves the dataset's folder."""
    path = PurePosixPath(name)
    if not name.strip():
        raise EarwitnessError(f"{where} has no {field}; correct it")
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise EarwitnessError(f"{where}: {field} {name!r} leaves the dataset's folder; correct it")
    return name

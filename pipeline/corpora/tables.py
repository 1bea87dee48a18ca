"""The CSV files of datasets, as people have really edited them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import EarwitnessError


@dataclass(frozen=True)
class Row:
    """One row: the line of the file that it ends on, and its values by column."""

    line: int
    values: dict[str, str]

    def captions(self) -> tuple[str, ...]:
        """What stands in the columns ``caption``, ``caption_1`` …, in order, without empty ones."""
        texts = (
            " ".join(text.split()) for name, text in self.values.items() if is_caption_column(name)
        )
        return tuple(text for text in texts if text)


def is_caption_column(name: str) -> bool:
    return name == "caption" or name.startswith("caption_")


def read_rows(path: Path, columns: Sequence[str], captions: bool = False) -> list[Row]:
    """The rows of a CSV file with a header.

    Args:
        columns: that the header must have.
        captions: whether it must have ``caption`` or ``caption_1`` … too.

    Raises:
        EarwitnessError: the file is missing, empty, not UTF-8 or not CSV, or lacks a column; or a
            row has more values than the header has columns.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets put a mark before the header
    except FileNotFoundError:
        raise EarwitnessError(f"{path}: not there; the dataset needs it") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise EarwitnessError(f"{path}: line {line} is not UTF-8; save it as UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True)
    try:
        header = list(reader.fieldnames or ())
        _check_header(path, header, columns, captions)
        rows = [_row(path, reader.line_num, values) for values in reader]
    except csv.Error as error:
        raise EarwitnessError(
            f"{path}: line {reader.line_num} is not CSV ({error}); correct it"
        ) from None
    if not rows:
        raise EarwitnessError(f"{path}: has no rows; give a file with a header and rows")
    return rows


def sound_name(row: Row, column: str, source: Path) -> str:
    """A row's file name, refused where it is empty or leaves the dataset's folder."""
    name = row.values[column]
    path = PurePosixPath(name)
    if not name.strip():
        raise EarwitnessError(f"{source}: line {row.line} has no {column}; correct the row")
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise EarwitnessError(
            f"{source}: line {row.line}: {column} {name!r} leaves the dataset's folder; "
            "correct the row"
        )
    return name


def _check_header(path: Path, header: list[str], columns: Sequence[str], captions: bool) -> None:
    if not header:
        raise EarwitnessError(f"{path}: empty file; give a file with a header and rows")
    missing = [name for name in columns if name not in header]
    if captions and not any(map(is_caption_column, header)):
        missing.append("caption_1")
    if missing:
        raise EarwitnessError(
            f"{path}: no column {', '.join(missing)}; its columns are: {', '.join(header)}"
        )
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise EarwitnessError(f"{path}: column {twice!r} stands twice; rename one")


def _row(path: Path, line: int, values: dict[str, str]) -> Row:
    if None in values:  # where csv.DictReader puts what the header has no name for
        raise EarwitnessError(
            f"{path}: line {line} has more values than the header has columns; "
            "put quotes around a caption that has commas"
        )
    return Row(line, values)

"""CSV files with a header, as people have really edited them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import EarwitnessError


class Row(NamedTuple):
    """One row: the line of the file that it ends on, and its values by column."""

    line: int
    values: dict[str, str]


def read_rows(path: Path, columns: Sequence[str], *, short_rows: bool = False) -> list[Row]:
    """The rows of a UTF-8 CSV file with a header; empty lines are left out.

    Args:
        columns: those that the header must have.
        short_rows: whether a row may have fewer values than the header; the rest is then empty.

    Raises:
        EarwitnessError: the file cannot be read, is empty, not UTF-8 or not CSV; a column is
            missing or named twice; a row has too many or too few values.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")  # spreadsheets put a byte order mark before the header
    except OSError as error:
        raise EarwitnessError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise EarwitnessError(f"{path}: line {line} is not UTF-8; save it as UTF-8") from None
    if "\0" in text:
        raise EarwitnessError(f"{path}: not a CSV file (it has zero bytes)")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        header = [name.strip() for name in next(reader, [])]
        check_columns(path, header, columns)
        for cells in filter(None, reader):
            if len(cells) > len(header) or (len(cells) < len(header) and not short_rows):
                raise EarwitnessError(
                    f"{path}: line {reader.line_num} has {len(cells)} values for {len(header)} "
                    "columns; put quotes around a caption that has commas"
                )
            cells += [""] * (len(header) - len(cells))
            rows.append(Row(reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise EarwitnessError(
            f"{path}: line {reader.line_num} is not CSV ({error}); correct it"
        ) from None
    if not rows:
        raise EarwitnessError(f"{path}: has no rows; give a file with a header and rows")
    return rows


def check_columns(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    """Refuses a header without one of ``columns``, or with one of its names twice."""
    if not header:
        raise EarwitnessError(f"{path}: empty file; give a file with a header and rows")
    if missing := [name for name in columns if name not in header]:
        raise EarwitnessError(
            f"{path}: no column {', '.join(missing)}; its columns are: {', '.join(header)}"
        )
    if repeated := next((name for name in header if header.count(name) > 1), None):
        raise EarwitnessError(f"{path}: column {repeated!r} occurs twice; rename one")

"""CSV files with a header, as people have really edited them: one reader for all of them.

One whose name ends in ``.tsv`` has tabs in the place of commas.

Spaces around a cell are no part of it; what a spreadsheet leaves behind (a byte order mark, the
line ends of Windows and of old Macs, empty rows and columns) is passed over.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import EarwitnessError
from pipeline.files import read_text

HINT = "give a CSV file with a header and rows"
CAPTION = re.compile(r"caption_[0-9]+")


class Row(NamedTuple):
    """One row, by column; ``line`` is that of the file which it begins on."""

    line: int
    values: dict[str, str]  # without spaces around them
    spaced: dict[str, str]  # as they are written, those that have spaces around them


class _Record(NamedTuple):
    line: int
    cells: list[str]  # without the spaces before them
    written: list[str]


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a UTF-8 CSV file with a header.

    A row may have fewer values than the header; the rest are empty. Columns without a name are not
    read: those before the first name may have values (a spreadsheet's index), others must be empty.

    Args:
        columns: those that the header, and each row, must have.

    Raises:
        EarwitnessError: see :func:`pipeline.files.read_text`; or it is empty or not CSV; a column
            is missing or named twice; a row has too many or too few values.
    """
    header, records = _open(path)
    check_columns(path, header, columns)
    rows = [_row(path, header, columns, record) for record in records]
    if not rows:
        raise EarwitnessError(f"{path}: has no rows; {HINT}")
    return rows


def read_header(path: Path) -> list[str]:
    """The columns of a CSV file with a header; the last has a name.

    Raises:
        EarwitnessError: see :func:`read_rows`.
    """
    return _open(path)[0]


def captioned_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a CSV file with ``columns`` and ``caption_1`` …, or ``caption`` alone.

    Raises:
        EarwitnessError: see :func:`read_rows`.
    """
    rows = read_rows(path, columns)
    header = list(rows[0].values)
    numbered = next(filter(CAPTION.fullmatch, header), None)
    if numbered and "caption" in header:
        raise EarwitnessError(
            f"{path}: has both caption and {numbered}, so that it is not clear what is a caption; "
            "rename one"
        )
    if "caption" not in header and not numbered:
        check_columns(path, header, ["caption_1"])
    return rows


def caption_columns(values: Mapping[str, str]) -> list[str]:
    """Those of a row of :func:`captioned_rows` that hold captions; ``caption_source`` does not."""
    return [name for name in values if name == "caption" or CAPTION.fullmatch(name)]


def check_columns(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    """Refuses a header without one of ``columns``, or with one of its names twice."""
    names = [name for name in header if name]
    if not names:
        raise EarwitnessError(f"{path}: empty file; {HINT}")
    if missing := [name for name in columns if name not in names]:
        raise EarwitnessError(
            f"{path}: no column {', '.join(missing)}; its columns are: {', '.join(names)}"
        )
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise EarwitnessError(f"{path}: column {repeated!r} occurs twice; rename one")


def _open(path: Path) -> tuple[list[str], Iterator[_Record]]:
    """The header, and the records below it."""
    text = read_text(path, HINT)
    if "\0" in text:
        raise EarwitnessError(f"{path}: not a CSV file (it has zero bytes)")
    records = _records(path, text)
    header = [name.strip() for name in next(records, _Record(0, [], [])).cells]
    while header and not header[-1]:
        header.pop()
    return header, records


def _records(path: Path, text: str) -> Iterator[_Record]:
    """All that have anything in them, the header too."""
    lines = list(io.StringIO(text, newline=""))  # ends at \\n, \\r\\n and \\r, which it keeps
    comma = _comma(path)
    reader = csv.reader(iter(lines), delimiter=comma, strict=True, skipinitialspace=True)
    while reader.line_num < len(lines):
        begin = reader.line_num
        try:
            cells = next(reader)
        except csv.Error as error:
            raise EarwitnessError(
                f"{path}: line {begin + 1} is not CSV ({error}); correct it, such as a quote that "
                "is not closed"
            ) from None
        if any(cell.strip() for cell in cells):
            own = lines[begin : reader.line_num]
            yield _Record(begin + 1, cells, _written(own, cells, comma))


def _comma(path: Path) -> str:
    """What stands between a file's cells."""
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _quotes(path: Path) -> str:
    """The hint on a row with too many cells."""
    return f"put quotes around a caption that has {'commas' if _comma(path) == ',' else 'tabs'}"


def _written(lines: Sequence[str], cells: list[str], comma: str) -> list[str]:
    """A record's cells with the spaces before them, which three of Clotho's file names have."""
    if not any(line.startswith(" ") or f"{comma} " in line for line in lines):
        return cells
    written = next(csv.reader(lines, delimiter=comma), [])
    same = [cell.strip() for cell in written] == [cell.strip() for cell in cells]
    return written if same else cells  # not so where a quote stands behind a space


def _row(path: Path, header: Sequence[str], columns: Sequence[str], record: _Record) -> Row:
    line, cells, written = record
    while len(cells) > len(header) and not cells[-1].strip():
        cells.pop()
    least = max((header.index(name) + 1 for name in columns), default=1)
    if not least <= len(cells) <= len(header):
        raise EarwitnessError(
            f"{path}: line {line} has {len(cells)} values for {len(header)} columns; "
            f"{_quotes(path)}"
        )
    index = next(place for place, name in enumerate(header) if name)  # all before it have no name
    for place, cell in enumerate(cells):
        if place > index and not header[place] and cell.strip():
            raise EarwitnessError(
                f"{path}: line {line} has a value in column {place + 1}, which has no name; "
                f"{_quotes(path)}, or name the column"
            )
    values = dict.fromkeys(filter(None, header), "")
    named = [(name, place) for place, name in enumerate(header[: len(cells)]) if name]
    values |= {name: cells[place].strip() for name, place in named}
    spaced = {name: written[place] for name, place in named if written[place] != values[name]}
    return Row(line, values, spaced)

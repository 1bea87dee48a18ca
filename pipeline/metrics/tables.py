"""CSV files of captions, read with suspicion, and of per-clip values, written in one step."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import EarwitnessError
from pipeline.files import replacing
from pipeline.metrics.scores import Values


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a UTF-8 CSV with a header, each with every column.

    Args:
        columns: those that must be there.

    Raises:
        EarwitnessError: not there, empty, not UTF-8, not CSV, a column missing or named twice, or
            a row of another length; with the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise EarwitnessError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise EarwitnessError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None
    if "\0" in text:
        raise EarwitnessError(f"{path}: not a CSV file (it has zero bytes)")
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        header = [name.strip() for name in next(lines, [])]
        _check_header(path, header, columns)
        for cells in lines:
            if not cells:
                continue
            if len(cells) != len(header):
                raise EarwitnessError(
                    f"{path}: line {lines.line_num} has {len(cells)} cells for {len(header)}"
                    " columns; quote captions that hold a comma"
                )
            rows.append(dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise EarwitnessError(f"{path}: line {lines.line_num}: not CSV ({error})") from None
    if not rows:
        raise EarwitnessError(f"{path}: no rows")
    return rows


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise EarwitnessError(f"{path}: column {twice!r} stands twice; remove one")
    missing = [name for name in columns if name not in header]
    if missing:
        there = ", ".join(header) or "nothing"
        raise EarwitnessError(f"{path}: no column {', '.join(missing)}; its header has: {there}")


def read_predictions(path: Path, clip_ids: Sequence[str], mend: str) -> list[str]:
    """A system's captions (columns clip_id, caption) in the order of ``clip_ids``.

    Raises:
        EarwitnessError: see :func:`read_rows`; or a clip that stands twice, is missing or is not
            of this dataset. ``mend`` says what to run.
    """
    captions: dict[str, str] = {}
    wanted = set(clip_ids)
    for row in read_rows(path, ["clip_id", "caption"]):
        name = row["clip_id"]
        if name in captions:
            raise EarwitnessError(f"{path}: clip {name!r} stands twice; {mend}")
        if name not in wanted:
            raise EarwitnessError(f"{path}: clip {name!r} is not in the dataset's split; {mend}")
        captions[name] = row["caption"]
    missing = [name for name in clip_ids if name not in captions]
    if missing:
        raise EarwitnessError(
            f"{path}: no caption of {missing[0]!r} (and {len(missing) - 1} more clips); {mend}"
        )
    return [captions[name] for name in clip_ids]


def write_clips(
    path: Path, labels: Mapping[str, Sequence[str]], values: Mapping[str, Values]
) -> None:
    """One row a clip: its labels, then each metric's value at full precision."""
    columns: list[Sequence[object]] = [*labels.values(), *(v.tolist() for v in values.values())]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*labels, *values])
        writer.writerows(zip(*columns, strict=True))

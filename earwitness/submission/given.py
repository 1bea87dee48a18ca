"""What a challenge gives out, as its own tables say it."""

from __future__ import annotations

from pathlib import Path

from pipeline.tables import caption_columns, captioned_rows, read_rows


def given_files(table: Path | None) -> list[str] | None:
    """The file names of the set; None without a table.

    Raises:
        EarwitnessError: see :func:`pipeline.tables.read_rows`.
    """
    if table is None:
        return None
    return [row.values["file_name"] for row in read_rows(table, ["file_name"])]


def given_queries(table: Path | None) -> list[str] | None:
    """The queries of the set; None without a table.

    Raises:
        EarwitnessError: see :func:`pipeline.tables.captioned_rows`.
    """
    if table is None:
        return None
    rows = [row.values for row in captioned_rows(table, [])]
    return [values[name] for values in rows for name in caption_columns(values) if values[name]]

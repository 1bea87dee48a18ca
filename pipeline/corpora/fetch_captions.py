"""Public captions from the web, a few megabytes: the tables alone, without their sound.

Clotho's have the MD5s that Zenodo gives. For AudioCaps' no checksum is published, so that a table
is accepted by its shape: the official columns, and as many rows as its repository counts captions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.config.datasets import CAPTION_TABLES
from pipeline.corpora.fetch import CLOTHO, ZENODO, fetching
from pipeline.download import Checksum, download
from pipeline.errors import EarwitnessError
from pipeline.tables import read_rows

AUDIOCAPS = "https://raw.githubusercontent.com/cdjkim/audiocaps/master/dataset"
COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")  # AudioCaps'
ELSE = (
    "or let root be a folder that has these tables; without them, layout: descriptions learns from "
    "captions that come with earwitness (docs/datasets.md)"
)


class RemoteTable(NamedTuple):
    """A table to download: ``md5``, or ``rows`` where no checksum is known."""

    url: str
    megabytes: float  # about
    md5: str | None = None
    rows: int | None = None


MEGABYTES = {"development": 1.3, "validation": 0.4, "evaluation": 0.4}  # of Clotho's
TABLES: dict[str, RemoteTable] = {
    **{
        table.name: RemoteTable(f"{ZENODO}/{table.name}?download=1", MEGABYTES[split], table.md5)
        for split, files in CLOTHO.items()
        for table in files.tables
        if table.name in CAPTION_TABLES["clotho"].values()
    },
    "audiocaps2_train.csv": RemoteTable(f"{AUDIOCAPS}2.0/train.csv", 6.9, rows=91_256),
    "audiocaps2_val.csv": RemoteTable(f"{AUDIOCAPS}2.0/val.csv", 0.2, rows=2_475),
    "audiocaps2_test.csv": RemoteTable(f"{AUDIOCAPS}2.0/test.csv", 0.4, rows=4_875),
    "audiocaps_train.csv": RemoteTable(f"{AUDIOCAPS}/train.csv", 3.6, rows=49_838),
    "audiocaps_val.csv": RemoteTable(f"{AUDIOCAPS}/val.csv", 0.2, rows=2_475),  # 495 clips × 5
    "audiocaps_test.csv": RemoteTable(f"{AUDIOCAPS}/test.csv", 0.4, rows=4_875),  # 975 clips × 5
}


def caption_tables(sources: Iterable[str]) -> dict[str, RemoteTable]:
    """All tables of public captions, by their names below the dataset's root."""
    return {name: TABLES[name] for source in sources for name in CAPTION_TABLES[source].values()}


def missing_tables(root: Path, sources: Iterable[str]) -> list[RemoteTable]:
    """Those of some sources' tables that ``root`` lacks."""
    tables = caption_tables(sources)
    return [table for name, table in tables.items() if not (root / name).exists()]


def fetch_captions(
    root: Path,
    tables: Mapping[str, RemoteTable],
    say: Callable[[str], None],
    progress: bool = True,
    pause: float = 2.0,
) -> None:
    """Downloads those of ``tables`` that ``root`` lacks; after an interruption, the rest.

    Args:
        say: told what will be downloaded, and how large it is, before anything is.
        progress: show a bar on a terminal.
        pause: seconds before another try, longer each time.

    Raises:
        EarwitnessError: no connection, or another table than is expected.
    """
    missing = {name: table for name, table in tables.items() if not (root / name).exists()}
    if not missing:
        return
    total = sum(table.megabytes for table in missing.values())
    each = ", ".join(f"{name} ({table.megabytes:g} MB)" for name, table in missing.items())
    say(f"downloads about {total:.1f} MB into {root}: {each}")
    with fetching(root):
        for name, table in missing.items():
            try:
                _fetch(table, root / name, progress, pause)
            except EarwitnessError as error:
                raise EarwitnessError(f"{error}; {ELSE}") from None


def _fetch(table: RemoteTable, path: Path, progress: bool, pause: float) -> None:
    if path.exists():  # another process was first
        return
    if table.rows is None:
        checksum = None if table.md5 is None else Checksum("md5", table.md5)
        download(table.url, path, checksum, progress=progress, pause=pause)
        return
    aside = path.with_name(f".{path.name}")  # so that what is in place has been checked
    try:
        download(table.url, aside, progress=progress, pause=pause)
    except EarwitnessError as error:
        raise EarwitnessError(str(error).replace(str(aside), str(path))) from None
    if fault := _fault(aside, table.rows):
        aside.unlink()
        raise EarwitnessError(
            f"{table.url}: {fault}, removed; run again, or put the file at {path}"
        )
    aside.replace(path)


def _fault(path: Path, rows: int) -> str:
    """Why a file is not AudioCaps' table of so many captions; empty where it is."""
    try:
        found = read_rows(path, COLUMNS)
    except EarwitnessError as error:
        return str(error).removeprefix(f"{path}: ")
    if tuple(found[0].values) != COLUMNS:
        return f"its columns are {', '.join(found[0].values)}, not {', '.join(COLUMNS)}"
    return "" if len(found) == rows else f"has {len(found)} captions, not {rows}"

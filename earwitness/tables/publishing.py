"""Tables in git: ``tables/<table>-<dataset>.json`` and ``.md``, and their blocks in the docs.

A block of docs/results.md stands between ``<!-- table NAME DATASET -->`` and ``<!-- end -->``;
it is what its JSON prints, or says that there is none yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from earwitness.tables.formats import json_text, markdown
from earwitness.tables.made import MadeTable, read_made
from earwitness.tables.results import RowResult
from pipeline.errors import EarwitnessError
from pipeline.files import read_text, write_atomic

FOLDER = "tables"  # of the repository
PAGE = Path("docs/results.md")
BLOCK = re.compile(
    r"(?P<begin><!-- table (?P<table>[\w-]+) (?P<dataset>[\w-]+) -->\n)"
    r"(?P<text>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)


def json_path(root: Path, table: str, dataset: str) -> Path:
    return root / FOLDER / f"{table}-{dataset}.json"


def published(root: Path, table: str, dataset: str) -> dict[str, RowResult]:
    """Row → result, of a table in git; none where it was never written.

    Raises:
        EarwitnessError: the file is there, and not in form.
    """
    path = json_path(root, table, dataset)
    return read_made(path).made() if path.is_file() else {}


def publish(root: Path, table: MadeTable) -> list[Path]:
    """Writes both files, and the block of the page where it has one.

    Raises:
        EarwitnessError: a row is not made yet, or is stale; nothing is written then.
    """
    lacking = [
        name for name, row in table.rows.items() if row.stale or not (row.result or row.paper)
    ]
    if lacking or not table.made():
        which = f"row {lacking[0]} is" if lacking else "its rows are"
        raise EarwitnessError(
            f"table {table.table}: {which} not made with today's settings and code; run it without "
            "--only, --dry and --stale ok"
        )
    path = json_path(root, table.table, table.dataset)
    write_atomic(path, json_text(table))
    write_atomic(path.with_suffix(".md"), f"# {table.about}\n\n{markdown(table)}")
    written = [path, path.with_suffix(".md")]
    page = root / PAGE
    if page.is_file():
        before = read_text(page, "restore it")
        after = refreshed(before, root)
        if after != before:
            write_atomic(page, after)
            written.append(page)
    return written


def refreshed(page: str, root: Path) -> str:
    """A page with every block as its JSON says."""

    def block(match: re.Match[str]) -> str:
        return f"{match['begin']}{block_text(root, match['table'], match['dataset'])}{match['end']}"

    return BLOCK.sub(block, page)


def block_text(root: Path, table: str, dataset: str) -> str:
    """What stands between a block's marks."""
    path = json_path(root, table, dataset)
    if not path.is_file():
        return f"\nNot made yet: `earwitness table {table} {dataset} --write`.\n\n"
    return f"\n{markdown(read_made(path))}\n"


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Table, dataset and text of every block of a page."""
    for match in BLOCK.finditer(page):
        yield match["table"], match["dataset"], match["text"]

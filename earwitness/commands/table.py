"""A table of a paper, ours beside its numbers: ``earwitness table``."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from earwitness.commands.shared import Quiet, Root, check_place

if TYPE_CHECKING:
    from earwitness.tables.made import MadeTable


class TableFormat(StrEnum):
    """How a table is printed."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


class StaleRows(StrEnum):
    """What is done with rows that other settings or code made."""

    rerun = "rerun"
    ok = "ok"


def table(
    name: Annotated[str, typer.Argument(help="edtc-2, sjtu-3, wsac-1 …; nothing lists all")] = "",
    dataset: Annotated[
        str, typer.Argument(help="soundscapes, clotho …; if not given the table's own")
    ] = "",
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    seeds: Annotated[
        str, typer.Option(metavar="1 2 3", help="each trains every row; if not given 1, 2 and 3")
    ] = "",
    only: Annotated[
        list[str] | None, typer.Option(metavar="ROW", help="one row; may be given several times")
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="say what is there and what would run, and run nothing")
    ] = False,
    stale: Annotated[
        StaleRows, typer.Option(help="rows whose settings or code changed since: rerun, or ok")
    ] = StaleRows.rerun,
    jobs: Annotated[
        int, typer.Option(min=1, max=4096, help="that run side by side, where they can")
    ] = 1,
    metrics: Annotated[
        str, typer.Option(metavar="cider_d,spider", help="the columns; if not given the paper's")
    ] = "",
    format: Annotated[TableFormat, typer.Option(help="of what is printed")] = TableFormat.text,
    out: Annotated[Path | None, typer.Option(help="write it to this file")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="into tables/, and its place in docs/results.md, too")
    ] = False,
    list_all: Annotated[bool, typer.Option("--list", help="every table there is")] = False,
    repository: Root = None,
    quiet: Quiet = False,
) -> None:
    """Make a table of a paper: ours, with deviations over seeds, beside the paper's numbers.

    What is missing is trained and scored as DVC experiments, beside your own params.yaml, which
    stays as it is. Stopped or killed, the same command goes on where it was.

    Examples: `earwitness table` (lists all), `earwitness table edtc-2 --dry`,
    `earwitness table edtc-2 soundscapes --seeds 1 2 3 --jobs 2`,
    `earwitness table cmu-10 --only lstm`, `earwitness table wsac-1 --format latex --out wsac.tex`
    """
    from earwitness.repository import find_repository
    from earwitness.tables.reading import listing

    check_place(out)
    root = find_repository(repository).root
    if list_all or not name:
        print(listing(root / "recipes"))
        return
    from earwitness.tables.making import TableJob
    from pipeline.errors import EarwitnessError

    words = [word for word in (dataset, *(more or ())) if word]
    rest = [word for word in words if not word.isdigit()]  # `--seeds 1 2 3`
    numbers = numbers_of([*seeds.replace(",", " ").split(), *(w for w in words if w.isdigit())])
    job = TableJob(root, name, _one(rest), numbers, only or ())
    if write and job.partial:
        raise EarwitnessError("--write is of whole tables; leave out --only, and name the table")
    if dry:
        print("\n".join(job.foresee()))
        return
    job.make(stale.value, partial(_say, quiet), jobs)
    _give(job.table([each.strip() for each in metrics.split(",") if each.strip()]), format, out)
    if write:
        from earwitness.tables.publishing import publish

        for path in publish(root, job.table()):
            print(f"wrote {path}", file=sys.stderr)


def _say(quiet: bool, line: str) -> None:
    if not quiet:
        print(line, file=sys.stderr, flush=True)


def _give(table: MadeTable, format: TableFormat, out: Path | None) -> None:
    """Prints a table, or writes it."""
    from earwitness.tables.formats import FORMATS
    from pipeline.files import delivering

    shown = FORMATS[format.value](table)
    if out is None:
        print(shown, end="")
        return
    with delivering(out) as whole:
        whole.write_text(shown, encoding="utf-8")
    print(f"wrote {out}", file=sys.stderr)


def _one(words: list[str]) -> str:
    """The dataset, of what was given beside the name."""
    from pipeline.errors import EarwitnessError

    if len(words) > 1:
        raise EarwitnessError(f"{words[1]}: one dataset a table; {words[0]} is given already")
    return "".join(words)


def numbers_of(words: list[str]) -> list[int]:
    """Seeds as they were typed.

    Raises:
        EarwitnessError: one is no number of 0 or more, or is given twice.
    """
    from pipeline.errors import EarwitnessError

    for word in words:
        if not (word.isdecimal() and word.isascii() and len(word) < 10):
            raise EarwitnessError(
                f"--seeds {word}: not a seed; give numbers, such as --seeds 1 2 3"
            )
    found = [int(word) for word in words]
    if double := next((seed for seed in found if found.count(seed) > 1), None):
        raise EarwitnessError(f"--seeds {double}: given twice; give it once")
    return found

"""Is one system better than another: ``earwitness compare``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from earwitness.commands.shared import Json, Quiet, Root

if TYPE_CHECKING:
    from rich.table import Table

    from earwitness.comparing.comparison import Comparison
    from pipeline.metrics.pairs import Difference

WIDTH = 120  # of the table, at least: a narrower terminal breaks its lines
CODES = {"same": 0, "better": 3, "worse": 4}  # 1 and 2 are errors, as of all commands


def compare(
    systems: Annotated[
        list[str], typer.Argument(help="two or more systems of params.yaml, of one kind")
    ],
    rev: Annotated[
        str | None,
        typer.Option(
            help="a commit, branch, tag or experiment: compare one system with itself then, or "
            "the first of two now with the second then. Nothing is trained or checked out"
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="a test set; the first by default")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="show and judge by this one; may be given several times"),
    ] = None,
    top: Annotated[int, typer.Option(help="clips that differ most", min=0)] = 10,
    as_json: Json = False,
    quiet: Quiet = False,
    root: Root = None,
) -> None:
    """Say whether a system is better than another, by how much, and how sure that is.

    Of each metric: both values, their difference with its 95 % interval, and p, which is corrected
    for all pairs of systems (Holm). Then the clips that differ most.

    Exit code: 0 where no difference is significant (p < 0.05), 3 where the first system is better,
    4 where it is worse in any; judged by SPIDEr, else CIDEr-D, of search by mAP@10, or by --metric.

    Examples: `earwitness compare edtc ensemble`, `earwitness compare edtc --rev HEAD~1`
    """
    from earwitness.comparing.comparison import compare_systems
    from earwitness.repository import find_repository

    found = compare_systems(
        find_repository(root), systems, rev=rev, dataset=dataset, metrics=metric or (), top=top
    )
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        _show(found)
        for warning in () if quiet else found.warnings:
            print(f"note: {warning}", file=sys.stderr)
    raise typer.Exit(CODES[found.verdict()])


def _show(found: Comparison) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.text import Text

    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    seeds = ", ".join(map(str, found.seeds))
    several = f"seeds {seeds}" if len(found.seeds) > 1 else f"seed {seeds}"
    console.print(f"{found.clips} clips of {escape(found.dataset)}, {several}")
    for (a, b), differences in found.pairs.items():
        console.print(f"\n[bold]{escape(a)}[/] and [bold]{escape(b)}[/]")
        console.print(_table(a, b, differences))
    for clip in found.differing:
        head = f"\n[bold]{escape(clip.clip_id)}[/]  {escape(found.judged[0])} "
        console.print(f"{head}{clip.a:.3f} and {clip.b:.3f}")
        for label, caption in zip(found.systems, clip.said, strict=False):
            console.print(Text(f"  {label}: {caption}"), soft_wrap=True)
        for reference in clip.references[:2]:
            console.print(Text(f"  reference: {reference}", style="dim"), soft_wrap=True)
    console.print(f"\n{_VERDICTS[found.verdict()]}, by {', '.join(found.judged)}", soft_wrap=True)


_VERDICTS = {
    "same": "no significant difference",
    "better": "they differ significantly, and the first is not worse",
    "worse": "the first is significantly worse",
}


def _table(a: str, b: str, differences: dict[str, Difference]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in (a, b, "difference", "95 % interval", "p", ""):
        table.add_column(Text(heading), header_style="dim", justify="right", no_wrap=True)
    for metric, own in differences.items():
        scale = 1 if metric.endswith(("mean_length", "median_rank")) else 100
        limits = "none"
        if own.low is not None and own.high is not None:
            limits = f"{scale * own.low:+.2f} … {scale * own.high:+.2f}"
        cells = (f"{scale * own.a:.2f}", f"{scale * own.b:.2f}", f"{scale * own.difference:+.2f}")
        star = "*" if own.p_holm < 0.05 else ""
        table.add_row(metric, *cells, limits, f"{own.p_holm:.4f}", star)
    return table

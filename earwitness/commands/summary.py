"""What a run came to: ``earwitness summary``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from earwitness.commands.shared import Json, Root

if TYPE_CHECKING:
    from rich.table import Table

    from earwitness.summary import Example, Score, Summary


def summary(as_json: Json = False, root: Root = None) -> None:
    """Show what a run came to: five captions, six scores, and what to do next.

    `make repro` ends with it. The captions are those of the first system of params.yaml, spread
    evenly over the first test set, good or bad.

    Examples: `earwitness summary`, `earwitness summary --json`
    """
    from earwitness.repository import find_repository
    from earwitness.summary import summarise

    found = summarise(find_repository(root))
    if as_json:
        typer.echo(json.dumps(_as_dict(found), indent=1, ensure_ascii=False))
        return
    _show(found)


def _as_dict(found: Summary) -> dict[str, object]:
    lists = {name: [each._asdict() for each in getattr(found, name)] for name in _LISTS}
    return found._asdict() | lists


_LISTS = ("examples", "scores", "next")


def _show(found: Summary) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    console = Console(highlight=False)
    if found.examples:
        number = len(found.examples)
        console.print(
            f"\n[bold]{number} of {found.clips} clips of {escape(found.dataset)}[/], evenly "
            f"spread, as {escape(found.system)} captions them:"
        )
        console.print(Padding(_examples(found.examples), (0, 0, 0, 2)))
    for kind, heading in (("captions", "Captions"), ("retrieval", "Search by text")):
        if scores := [score for score in found.scores if score.kind == kind]:
            known = any(score.around is not None for score in scores)
            half = ", ± half of the 95 % interval" if known else ""
            console.print(f"[bold]{heading}[/], scores × 100, more is better{half}:")
            console.print(Padding(_scores(scores), (0, 0, 1, 2)))
    for line in found.missing:
        console.print(f"[yellow]not made:[/] {escape(line)}", soft_wrap=True)
    if found.report:
        console.print(f"[bold]Report[/]  {escape(found.report)}", soft_wrap=True)
    console.print("\n[bold]What next[/]")
    width = max(len(step.command) for step in found.next)
    for step in found.next:
        line = f"  [cyan]{escape(step.command.ljust(width))}[/]  # {escape(step.what)}"
        console.print(line, soft_wrap=True)


def _examples(examples: list[Example]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for heading in ("caption", "one of its references"):
        table.add_column(heading, header_style="dim", ratio=1)
    for example in examples:
        references = example.references
        more = f" (and {len(references) - 1} more)" if len(references) > 1 else ""
        reference = Text(references[0] if references else "none")
        table.add_row(Text(example.caption), reference.append(more, style="dim"))
    return table


def _scores(scores: list[Score]) -> Table:
    from rich.table import Table
    from rich.text import Text

    beside = dict.fromkeys(name for score in scores for name in score.yardsticks)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in (scores[0].system, "the highest of all"):
        table.add_column(Text(heading), header_style="dim")
    for name in beside:
        table.add_column(Text(_YARDSTICKS.get(name, name)), header_style="dim", justify="right")
    for score in scores:
        highest = Text(_number(score.highest)).append(_half(score.highest_around), style="dim")
        highest.append(f" {score.highest_system}", style="dim")
        own = Text(_number(score.value), style="bold").append(_half(score.around), style="dim")
        table.add_row(
            score.label, own, highest, *(_number(score.yardsticks.get(name)) for name in beside)
        )
    return table


_YARDSTICKS = {"constant": "best\nconstant", "nearest": "nearest\nclip", "human": "a\nhuman"}


def _half(value: float | None) -> str:
    return "" if value is None else f" ±{100 * value:.1f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"

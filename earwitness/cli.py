"""``earwitness``: what a person types. Training and evaluation are ``dvc repro``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from earwitness.commands.caption import caption
from earwitness.commands.compare import compare
from earwitness.commands.doctor import doctor
from earwitness.commands.export import export
from earwitness.commands.graph import graph
from earwitness.commands.index import index
from earwitness.commands.recipe import recipe
from earwitness.commands.repro import repro
from earwitness.commands.score import score
from earwitness.commands.search import search
from earwitness.commands.serve import serve
from earwitness.commands.submit import submit
from earwitness.commands.summary import summary
from earwitness.commands.table import table
from earwitness.commands.why import why
from pipeline.errors import SyntheticSoundWarning
from pipeline.refusals import reported, show_any_text


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        with reported(), _warnings_as_lines():
            return super().invoke(ctx)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """What a person is meant to read, without the place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SyntheticSoundWarning)
        show = warnings.showwarning

        def in_one_line(message: Any, category: type[Warning], *place: Any) -> None:
            if issubclass(category, SyntheticSoundWarning):
                print(f"warning: {message}", file=sys.stderr)
            else:
                show(message, category, *place)

        warnings.showwarning = in_one_line  # type: ignore[assignment]
        yield


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"earwitness {metadata.version('earwitness')}")
        raise typer.Exit


@app.callback()
def earwitness(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_say_version),
    ] = False,
) -> None:
    """Audio captioning and search by text: `dvc repro` trains and scores, these are tools around
    it."""


PANELS = {  # in the order of the help
    "Your recordings": (caption, index, search, serve),
    "Experiments, beside `dvc repro`": (repro, summary, compare, table, recipe, score, graph, why),
    "Share what you trained": (export,),
    "This machine": (doctor,),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(submit, name="submit", rich_help_panel="Share what you trained")


def main() -> None:
    """Entry point; see :func:`pipeline.refusals.reported`."""
    show_any_text()
    app()

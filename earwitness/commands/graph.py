"""Which job reads what: ``earwitness graph``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from earwitness.commands.shared import Root


def graph(
    format: Annotated[
        Literal["text", "mermaid"], typer.Option(help="what each job reads, or a picture of it")
    ] = "text",
    root: Root = None,
) -> None:
    """Show which job reads what of which other, as `dvc dag` cannot.

    Examples: `earwitness graph`, `earwitness graph --format mermaid`
    """
    from earwitness.graph import draw, read_jobs
    from earwitness.repository import find_repository

    print(draw(read_jobs(find_repository(root).root), format))

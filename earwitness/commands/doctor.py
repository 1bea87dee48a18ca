"""What is there and what is not: ``earwitness doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from earwitness.commands.shared import Root


def doctor(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="only repair what a killed DVC left; `make repro` begins so"),
    ] = False,
    root: Root = None,
) -> None:
    """Say what of Java, SPICE, CUDA, weights and data is there, and how to get the rest."""
    from earwitness.doctor import examine
    from earwitness.repair import repaired
    from earwitness.repository import find_repository

    if repair:
        for found in repaired(find_repository(root).root):
            print(f"repaired  {found}")
        return
    missing = 0
    for finding in examine(find_repository(root)):
        missing += not finding.there
        print(f"{'ok  ' if finding.there else 'MISS'}  {finding.what:<34}  {finding.detail}")
    raise typer.Exit(1 if missing else 0)

"""Why a job would run again: ``earwitness why``."""

from __future__ import annotations

from typing import Annotated

import typer

from earwitness.commands.shared import Root


def why(
    job: Annotated[
        str,
        typer.Argument(help="as DVC names it, such as train_captioner@edtc; nothing: all of them"),
    ] = "",
    root: Root = None,
) -> None:
    """Say what `dvc repro` would run, and why; of one job, all that differs from its last run.

    Without a job it does what `dvc repro --dry` cannot on a fresh clone, as that ends at the first
    file that is not made yet.

    Examples: `earwitness why`, `earwitness why train_captioner@edtc`
    """
    from earwitness.repository import find_repository
    from earwitness.why import explain, foresee

    root = find_repository(root).root
    print("\n".join(explain(job, root) if job else foresee(root)))

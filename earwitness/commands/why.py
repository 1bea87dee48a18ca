"""Why a job would run again: ``earwitness why``."""

from __future__ import annotations

from typing import Annotated

import typer

from earwitness.commands.shared import Root


def why(
    job: Annotated[str, typer.Argument(help="as DVC names it, such as train_captioner@edtc")],
    root: Root = None,
) -> None:
    """Say why `dvc repro` would run a job again: what differs from the plan it last ran with."""
    from earwitness.repository import find_repository
    from earwitness.why import explain

    print("\n".join(explain(job, find_repository(root).root)))

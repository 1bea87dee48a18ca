"""What several commands have: options, tables, and the end where some files failed."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

Root = Annotated[
    Path | None,
    typer.Option(
        "--repository",
        help="the folder of params.yaml; if not given EARWITNESS_REPOSITORY, else the one around "
        "this folder, else the one installed",
    ),
]


def _be_quiet(quiet: bool) -> bool:
    """No progress bars (tqdm reads this when it is imported, which is later) and no warnings."""
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"
        warnings.simplefilter("ignore")
    return quiet


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="only results and errors: no progress, no notes", callback=_be_quiet
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
LongestMinutes = Annotated[
    float, typer.Option(help="longer files are left out, before they take memory", min=0.0)
]


def limit_threads(system: str, root: Path | None) -> None:
    """As ``hardware.threads`` of the repository says."""
    from earwitness.places import threads_of
    from pipeline.threads import limit

    limit(threads_of(system or None, root))


def limit_threads_here(root: Path | None) -> None:
    """As :func:`limit_threads`, where there is a repository."""
    from earwitness.repository import NoRepositoryError

    with suppress(NoRepositoryError):
        limit_threads("", root)


def check_place(path: Path | None) -> None:
    """Refuses a path that cannot be written at once, not after the work."""
    from pipeline.files import check_place

    if path is not None:
        check_place(path)


def report_failed(reasons: Sequence[str]) -> None:
    """Says which files could not be used; exit code 1 if there are any."""
    for reason in reasons:
        print(f"error: {reason}", file=sys.stderr)
    if reasons:
        raise typer.Exit(1)

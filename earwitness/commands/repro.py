"""``dvc repro`` with jobs side by side: ``earwitness repro``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from earwitness.commands.shared import Quiet, Root


def repro(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="jobs, stages or outputs, such as decode; nothing: all"),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=4096, help="that run at the same time")
    ] = 2,
    repository: Root = None,
    quiet: Quiet = False,
) -> None:
    """Run `dvc repro` with several jobs at once, where they do not wait for each other.

    The same jobs run, in an order that keeps to what waits for what, and `dvc.lock` and the cache
    are DVC's own; so `dvc repro` afterwards finds nothing to do. Jobs at the same time divide the
    cores, and take the GPUs in turn, where there are several.

    After one that failed no more are begun. Stopped or killed, the same command goes on.

    Examples: `earwitness repro`, `earwitness repro --jobs 8`, `earwitness repro evaluate rank`
    """
    from earwitness.jobs.repro import repro as run
    from earwitness.jobs.shown import shown
    from earwitness.repository import find_repository
    from pipeline.errors import EarwitnessError

    found = find_repository(repository)
    spread = found.params().hardware.processes == 1
    bars = sys.stdout.isatty() and not quiet
    failed = shown(run(found.root, targets or [], jobs, bars=bars, spread=spread), quiet)
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise EarwitnessError(f"{failed[0]}{more} failed; what it said is above")

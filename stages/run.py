"""Runs every stage: as a Typer command, timed, and with a one-line error for a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from typer.core import TyperCommand

from pipeline.launching import MEETING
from pipeline.parents import end_with_parent
from pipeline.refusals import ending, reported, show_any_text
from pipeline.threads import meet
from pipeline.times import Stopwatch
from stages import paths

if TYPE_CHECKING:  # slow to import, and `begin` comes first
    from pipeline.config.plans import Plan

P = TypeVar("P", bound="Plan")
_WATCH: ContextVar[Stopwatch] = ContextVar("watch")  # of the job that this process runs


class _Stage(TyperCommand):
    def invoke(self, ctx: Any) -> Any:
        with reported(str(Path.cwd())):
            stage = _stage()
            if stage is None:
                return super().invoke(ctx)
            with Stopwatch(paths.TIMES, stage, sys.argv[1:], _revision()) as watch:
                _WATCH.set(watch)
                return super().invoke(ctx)


def _stage() -> str | None:
    """The stage that this process is, by ``python -m stages.NAME``; None: a program that runs one,
    such as a test, whose time is no job's.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    room, _, name = spec.name.partition(".") if spec else ("", "", "")
    return name if room == "stages" else None


def run(command: Callable[..., Any]) -> None:
    """Runs a stage's function as a command; see :func:`pipeline.refusals.reported`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(cls=_Stage)(command)
    app()


def given(kind: type[P], path: Path) -> P:
    """The plan of the job that this process runs, whose time is kept by it.

    Raises:
        EarwitnessError: see :meth:`pipeline.config.plans.Plan.load`.
    """
    plan = kind.load(path)
    if watch := _WATCH.get(None):
        watch.given(path)
    return plan


def leave_time() -> None:
    """Another process of this job keeps its time."""
    if watch := _WATCH.get(None):
        watch.leave()


def _revision() -> str | None:
    """Git's commit, with ``+`` where tracked files are changed."""
    command = ("git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None


def begin() -> None:
    """What every stage does first, before its slow imports."""
    sys.excepthook = _excepthook
    show_any_text()
    if "DVC_STAGE" in os.environ or MEETING in os.environ:
        # a stage that outlived a killed DVC would write over what the next one makes; and a process
        # of a training ends with the one that started it
        end_with_parent()
    _meet(_jobs_at_least())


def _meet(at_least: int | None) -> None:
    """The jobs of one user on one machine find each other; where they cannot, each is alone."""
    with suppress(OSError):  # no temporary folder can be written
        place = Path(tempfile.gettempdir())
        if place != Path.cwd():  # Python's last resort, which is the repository
            meet(place / f"earwitness-{os.getuid()}", at_least)


def _jobs_at_least() -> int | None:
    """How many jobs `auto` divides the cores among, also before they have begun.

    None where ``OMP_NUM_THREADS`` says how many threads this one has.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return None
    said = os.environ.get("EARWITNESS_JOBS", "1")
    if not (said.isdecimal() and said.isascii() and len(said) < 6 and int(said)):
        print(f"error: EARWITNESS_JOBS={said}: not a number of jobs, such as 4", file=sys.stderr)
        raise SystemExit(1)
    return int(said)


def _excepthook(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """While a stage is still importing: Ctrl-C, or too little memory even for that."""
    line = ending(error)
    if line is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(line, file=sys.stderr)

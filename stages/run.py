"""Runs every stage: as a Typer command, and with a one-line error instead of a traceback."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import typer
from typer.core import TyperCommand

from pipeline.refusals import ending, reported, show_any_text

_PDEATHSIG = 1  # of prctl(2): a signal when the parent ends


class _Stage(TyperCommand):
    def invoke(self, ctx: Any) -> Any:
        with reported(str(Path.cwd())):
            return super().invoke(ctx)


def run(command: Callable[..., Any]) -> None:
    """Runs a stage's function as a command; see :func:`pipeline.refusals.reported`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(cls=_Stage)(command)
    app()


def begin() -> None:
    """What every stage does first, before its slow imports."""
    sys.excepthook = _excepthook
    show_any_text()
    if "DVC_STAGE" in os.environ and sys.platform == "linux":
        # a stage that outlived a killed DVC would write over what the next one makes
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)


def _excepthook(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """While a stage is still importing: Ctrl-C, or too little memory even for that."""
    line = ending(error)
    if line is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(line, file=sys.stderr)

"""Runs every stage: as a Typer command, and with a one-line error instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer

from pipeline.errors import EarwitnessError


def run(command: Callable[..., Any]) -> None:
    """Runs a stage's function as a command; an :class:`EarwitnessError` is one line and exit 1."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except EarwitnessError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None

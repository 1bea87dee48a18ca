"""What side by side running jobs say, in an order that can be read.

What a job says is shown together, when it has ended. On a terminal the jobs that run stand below,
each with its time and its progress bar.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from earwitness.jobs.lanes import HAS, RUNS, Said
from earwitness.terminal import duration

# what DVC says after each job, and here would say after all
HINTS = (
    "> ", "Updating lock file", "Generating lock file", "To track the changes with git",
    "\tgit add",
    "To enable auto staging", "\tdvc config core.autostage", "Use `dvc push`",
    "Data and pipelines are up to date",
)  # fmt: skip


class Screen(Protocol):
    """Where it is shown."""

    def line(self, text: str) -> None:
        """A line that stays."""

    def passing(self, name: str, text: str) -> None:
        """What a running job's progress bar says."""

    def ended(self, name: str) -> None:
        """A job that does not run any more."""


def shown(said: Iterable[Said], quiet: bool = False) -> list[str]:
    """Shows it all, and returns the jobs that failed.

    Args:
        quiet: show what failed alone.
    """
    with _screen(quiet) as screen:
        return _show(said, screen, quiet)


def _show(said: Iterable[Said], screen: Screen, quiet: bool) -> list[str]:
    lines, began, failed = defaultdict[str, list[str]](list), dict[str, float](), list[str]()
    cached = 0
    for name, line, code, passing in said:
        if passing:
            screen.passing(name, line)
        elif code is None:
            if match := RUNS.search(line):
                began[name] = time.monotonic()
                if not quiet:
                    screen.line(line)
                screen.passing(name, match[1])
            elif HAS.search(line):
                cached += "is cached" in line
            elif line.strip() and not line.startswith(HINTS):
                lines[name].append(line)
        else:
            screen.ended(name)
            took = f", after {duration(time.monotonic() - began[name])}" if name in began else ""
            if code:
                failed.append(name)
            if code or (name in began and not quiet):
                for each in lines.pop(name, []):
                    screen.line(f"  {each}")
                screen.line(f"{name} {'failed' if code else 'is done'}{took}")
    if cached and not quiet:
        screen.line(f"{cached} job{'s' * (cached > 1)} taken from DVC's cache")
    if not (began or cached or failed or quiet):
        screen.line("Data and pipelines are up to date.")
    return failed


@contextmanager
def _screen(quiet: bool) -> Iterator[Screen]:
    if quiet or not sys.stdout.isatty():
        yield _Plain()
        return
    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, transient=True, redirect_stdout=False) as progress:
        yield _Live(progress)


class _Plain:
    """A log."""

    def line(self, text: str) -> None:
        print(text, flush=True)

    def passing(self, name: str, text: str) -> None:
        pass

    def ended(self, name: str) -> None:
        pass


class _Live:
    """A terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, int] = {}

    def line(self, text: str) -> None:
        self._progress.console.print(Text(text))

    def passing(self, name: str, text: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task("", total=None)
        where = name if name == text or len(text.strip()) < 3 else f"{name}  {text.strip()}"
        self._progress.update(self._tasks[name], description=where)  # type: ignore[arg-type]

    def ended(self, name: str) -> None:
        if (task := self._tasks.pop(name, None)) is not None:
            self._progress.remove_task(task)  # type: ignore[arg-type]

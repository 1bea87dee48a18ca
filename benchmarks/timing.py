"""Times the obvious way and ours in one run, and compares them as a ratio.

The two run alternately, so that a busy machine slows both, and medians are compared.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table; times in seconds.

    ``target`` bounds ``slow / fast`` from below, or from above where ``at_most``.
    """

    name: str
    slow: float
    fast: float
    target: float
    at_most: bool = False

    @property
    def ratio(self) -> float:
        """How many times longer ``slow`` took than ``fast``."""
        return self.slow / self.fast

    @property
    def reached(self) -> bool:
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target

    def markdown(self) -> str:
        bound = f"{'≤' if self.at_most else '≥'} {self.target:g}"
        outcome = bound if self.reached else f"{bound} (not reached)"
        return (
            f"| {self.name} | {_seconds(self.slow)} | {_seconds(self.fast)} "
            f"| {self.ratio:.2f} × | {outcome} |"
        )


def compare(
    name: str,
    slow: Callable[[], Any],
    fast: Callable[[], Any],
    target: float,
    repeats: int = 5,
    *,
    warm: bool = True,
    at_most: bool = False,
) -> Row:
    """Times both in turn, ``repeats`` times, after one untimed run of each where ``warm``.

    Args:
        slow: the obvious way; with ``at_most`` a whole job.
        fast: ours; with ``at_most`` the part of that job that should take most of its time.
        target: of ``slow / fast``, a lower bound; an upper bound with ``at_most``.
    """
    if warm:
        slow()
        fast()
    slow_times: list[float] = []
    fast_times: list[float] = []
    for turn in range(repeats):
        pair = [(slow, slow_times), (fast, fast_times)]
        for call, times in pair if turn % 2 == 0 else reversed(pair):
            times.append(seconds(call))
    return Row(name, median(slow_times), median(fast_times), target, at_most)


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of one call, without the garbage collector's pauses; waits for CUDA."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        _synchronise()
        start = time.perf_counter()
        call()
        _synchronise()
        return time.perf_counter() - start
    finally:
        if enabled:
            gc.enable()


def print_table(rows: Sequence[Row]) -> None:
    """The rows as one markdown table."""
    print("| what | obvious way | ours | ratio | target |")
    print("|---|---:|---:|---:|---|")
    for row in rows:
        print(row.markdown())


def _synchronise() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.2f} ms"

"""One run of a training in a tracker: what it is called, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

Row = Mapping[str, float]  # of a training's curves: step, epoch, learning rate, losses, scores
Log = Callable[[Row], None]


@dataclass(frozen=True)
class RunName:
    """Which run it is: a model, with one seed, by one plan."""

    kind: str  # such as captioner
    model: str
    seed: int
    digest: str  # of the plan and of what training starts from

    def __str__(self) -> str:
        return f"{self.kind}-{self.model}-seed{self.seed}-{self.digest[:8]}"


class TrackedRun(Protocol):
    """One run in one tracker; a step of it is logged once."""

    def log(self, row: Row) -> None:
        """Writes one row, so that it outlives this process."""

    def close(self, done: bool) -> None:
        """Ends it; ``done``: training came to its end."""


def metrics(row: Row) -> dict[str, float]:
    """A row without its step, which every tracker counts by."""
    return {name: float(value) for name, value in row.items() if name != "step"}

"""What a stage does to each of its items, and the interface of what does it: here, or elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Generic, TypeVar

import torch

from pipeline.engine.throughput import Report

I = TypeVar("I")  # noqa: E741 - an item
P = TypeVar("P")
O = TypeVar("O")  # noqa: E741 - an output
R = TypeVar("R")


class Steps(ABC, Generic[I, P, O, R]):
    """Three steps from an item to its result, so that those of several items overlap.

    What an item gives depends on nothing but the item and the device's kind. It pickles until it
    is opened: a worker elsewhere gets a copy, on the CPU.
    """

    device: torch.device  # where ``compute`` does
    folder: Path | None = None  # that ``read`` reads from, if it does

    def opened(self) -> AbstractContextManager[None]:
        """For as long as it is used: its threads."""
        return nullcontext()

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Moves what computes."""

    @abstractmethod
    def read(self, item: I) -> P:
        """Into memory; in several threads at once, some items ahead."""

    @abstractmethod
    def compute(self, read: P) -> O:
        """On the device; one item after the other, in one thread."""

    @abstractmethod
    def finish(self, output: O) -> R:
        """To arrays, in another thread."""

    @abstractmethod
    def label(self, item: I) -> str:
        """The item in an error's words."""


class Engine(ABC):
    """Does a stage's steps."""

    device: torch.device  # of this process, for what is built in it

    @abstractmethod
    def kind(self, own: torch.device) -> str:
        """``cpu`` or ``cuda``: on what it computes steps whose device here is ``own``."""

    @abstractmethod
    def run(
        self,
        steps: Steps[I, P, O, R],
        items: Iterable[I],
        keep: Callable[[int, R], None],
        report: Report,
        total: int,
    ) -> Iterator[int]:
        """The number of each item whose result is kept, counted from 0, in any order.

        Args:
            items: taken only as work on them begins, so that they need not all be in memory.
            keep: given an item's number and its result; called for one at a time.
            report: its times are filled in.
            total: how many items there are.

        Raises:
            EarwitnessError: of a step; or the engine cannot do the work.
        """

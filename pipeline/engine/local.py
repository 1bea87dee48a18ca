"""Steps in this process: threads read before the device computes, and finish after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import torch

from pipeline.engine.prefetch import prefetch
from pipeline.engine.steps import Engine, I, O, P, R, Steps
from pipeline.engine.throughput import Clock, Report

DEPTH = 3  # items that wait for the device, at most


class LocalEngine(Engine):
    """In order; ``keep`` is called in the finishing thread, while the device computes on."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")

    def kind(self, own: torch.device) -> str:
        return own.type

    def run(
        self,
        steps: Steps[I, P, O, R],
        items: Iterable[I],
        keep: Callable[[int, R], None],
        report: Report,
        total: int,
    ) -> Iterator[int]:
        clock, start = Clock(steps.device), time.perf_counter()
        numbers = count()

        def outputs() -> Iterator[O]:
            for read in prefetch(readers, steps.read, items, DEPTH):
                clock.begin()
                output = steps.compute(read)
                clock.end()
                yield output

        def finish(output: O) -> int:
            result, number = steps.finish(output), next(numbers)
            keep(number, result)
            return number

        with (
            steps.opened(),
            ThreadPoolExecutor(DEPTH) as readers,
            ThreadPoolExecutor(1) as finisher,
        ):
            yield from prefetch(finisher, finish, outputs(), 1)
        report.seconds = time.perf_counter() - start
        report.encoder_seconds = clock.seconds()

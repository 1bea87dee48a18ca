"""Steps in this process: threads read before the device computes, and finish after it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

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

        def finish(number: int, output: O) -> int:
            keep(number, steps.finish(output))
            return number

        with (
            steps.opened(),
            ThreadPoolExecutor(DEPTH) as readers,
            ThreadPoolExecutor(1) as finisher,
        ):
            finishing: deque[Future[int]] = deque()
            for number, read in enumerate(prefetch(readers, steps.read, items, DEPTH)):
                clock.begin()
                output = steps.compute(read)
                clock.end()
                # never cancelled: what is computed is kept, whatever comes after it
                finishing.append(finisher.submit(finish, number, output))
                if len(finishing) > 1:
                    yield finishing.popleft().result()
            while finishing:
                yield finishing.popleft().result()
        report.seconds = time.perf_counter() - start
        report.encoder_seconds = clock.seconds()

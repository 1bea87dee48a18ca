"""What runs on a worker of the cluster: one copy of the steps, several items on their way."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch

from pipeline.engine.cluster import Refused, answered, enter
from pipeline.engine.steps import Steps
from pipeline.engine.throughput import Clock
from pipeline.errors import EarwitnessError
from pipeline.threads import limit


class Computing(NamedTuple):
    """Where and how a worker computes."""

    device: str
    threads: int
    folder: str  # the driver's, which relative paths begin at


class Done(NamedTuple):
    """An item's result."""

    value: Any


class Worker:
    """Its process is its own. Methods are called in several threads at once."""

    def __init__(self, place: Computing) -> None:
        limit(place.threads)  # before steps come: some encoders make their threads then
        self._place, self._stack = place, ExitStack()

    def open(self, steps: Steps[Any, Any, Any, Any]) -> Done | Refused:
        """Once, before all else. Answers its node's id."""
        return answered(self._open, steps)

    def run(self, item: Any) -> Done | Refused:
        """The result of one item; others are read and finished while one is computed."""
        return answered(self._run, item)

    def seconds(self) -> float:
        """How long the device has computed."""
        return self._device.submit(self._clock.seconds).result()

    def _open(self, steps: Steps[Any, Any, Any, Any]) -> Done:
        import ray

        place = self._place
        _enter(steps, place)
        device = torch.device(place.device)
        self._steps, self._clock = steps, Clock(device)
        steps.to(device)
        self._stack.close()  # of the steps before
        self._stack.enter_context(steps.opened())
        # OpenMP counts its threads for each thread that calls it
        pool = ThreadPoolExecutor(1, initializer=limit, initargs=(place.threads,))
        self._device = self._stack.enter_context(pool)
        return Done(ray.get_runtime_context().get_node_id())

    def _run(self, item: Any) -> Done:
        read = self._steps.read(item)
        output = self._device.submit(self._compute, read).result()
        return Done(self._steps.finish(output))

    def _compute(self, read: Any) -> Any:
        self._clock.begin()
        output = self._steps.compute(read)
        self._clock.end()
        return output


def _enter(steps: Steps[Any, Any, Any, Any], place: Computing) -> None:
    entered, folder = enter(place.folder), steps.folder
    if folder is None or (folder.is_dir() and (entered or folder.is_absolute())):
        return
    raise EarwitnessError(
        f"{folder}: not there on the cluster's node {socket.gethostname()}; share the folder with "
        "all nodes at the same path, or put the recordings into object storage"
    )

"""Steps on the workers of a Ray cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipeline.config.hardware import DeviceConfig
from pipeline.engine.cluster import Cluster, environment
from pipeline.engine.pool import ITEMS, WorkerPool
from pipeline.engine.steps import Engine, I, O, P, R, Steps
from pipeline.engine.throughput import Report
from pipeline.engine.worker import Computing, Worker


class RayEngine(Engine):
    """Encoders are built on this process's CPU, and copied to the workers.

    Args:
        hardware: of the job. Its threads are those of each worker; ``auto``: what this process
            has, so that the values are those that it would compute.

    Raises:
        EarwitnessError: no node has what a worker is to have.
    """

    def __init__(self, cluster: Cluster, hardware: DeviceConfig) -> None:
        self.device = torch.device("cpu")
        settings = cluster.settings
        own = torch.get_num_threads()
        self._threads = own if hardware.threads == "auto" else hardware.threads
        self._gpus = cluster.gpus_for(hardware.device)
        self._cpus = float(self._threads) if settings.cpus == "auto" else settings.cpus
        room = cluster.check_room(self._cpus, self._gpus)
        self._most = room if settings.workers == "auto" else settings.workers
        self._pool = WorkerPool(self._new_worker, settings.retries)

    def kind(self, own: torch.device) -> str:
        return "cuda" if self._gpus else "cpu"

    def run(
        self,
        steps: Steps[I, P, O, R],
        items: Iterable[I],
        keep: Callable[[int, R], None],
        report: Report,
        total: int,
    ) -> Iterator[int]:
        if not total:
            return
        start = time.perf_counter()
        for number, result in self._pool.results(steps, items, min(self._most, total)):
            keep(number, result)
            yield number
        report.encoder_seconds = self._pool.seconds()
        report.seconds = time.perf_counter() - start

    def close(self) -> None:
        """Ends the workers."""
        self._pool.end()

    def _new_worker(self) -> Any:
        """An actor, which waits for room."""
        import ray

        given = Computing(self.kind(self.device), self._threads, os.getcwd())  # noqa: PTH109
        options: dict[str, Any] = {
            "num_cpus": self._cpus,
            "num_gpus": self._gpus,
            "max_concurrency": ITEMS + 1,
            "max_restarts": 0,
            "scheduling_strategy": "SPREAD",
            "runtime_env": {"env_vars": environment(self._threads)},
        }
        remote: Any = ray.remote(**options)(Worker)
        return remote.remote(given)


@contextmanager
def ray_engine(cluster: Cluster, hardware: DeviceConfig) -> Iterator[RayEngine]:
    """An engine whose workers end with the context; they stay from one run to the next."""
    engine = RayEngine(cluster, hardware)
    try:
        yield engine
    finally:
        engine.close()

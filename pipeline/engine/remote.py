"""Steps on the workers of a Ray cluster: items are tasks that are repeated where one is lost.

A worker (an actor) holds the steps, with their encoder, and has few items at a time, so that it
reads while it computes and no results pile up. A worker that is lost gives its items back, and
another is asked for: Ray's own restarts would keep them with an actor that may never find room.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from pipeline.config.engine import RayConfig
from pipeline.config.hardware import DeviceConfig
from pipeline.engine.cluster import Cluster, Refused, alive_nodes, environment, lost
from pipeline.engine.steps import Engine, I, O, P, R, Steps
from pipeline.engine.throughput import Report
from pipeline.engine.worker import Place, Worker
from pipeline.errors import EarwitnessError, reason

ITEMS = 3  # of a worker at a time: one is computed, one read, one finished
PATIENCE = 30.0  # seconds without a worker, before that is said


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
        self._cluster, settings = cluster, cluster.settings
        own = torch.get_num_threads()
        self._threads = own if hardware.threads == "auto" else hardware.threads
        self._gpus = _gpus(hardware.device, cluster)
        self._cpus = float(self._threads) if settings.cpus == "auto" else settings.cpus
        self._room = cluster.check_room(self._cpus, self._gpus)

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
        start, settings = time.perf_counter(), self._cluster.settings
        wanted = self._room if settings.workers == "auto" else settings.workers
        pool = _Pool(self, settings, steps, min(wanted, total))
        try:
            for number, result in pool.results(items):
                keep(number, result)
                yield number
            report.encoder_seconds = pool.seconds()
        finally:
            pool.end()
        report.seconds = time.perf_counter() - start

    def new_worker(self, steps: Any) -> tuple[Any, Any]:
        """An actor, which waits for room, and the reference of its opening."""
        import ray

        place = Place(self.kind(self.device), self._threads, os.getcwd())  # noqa: PTH109
        actor: Any = (
            ray.remote(Worker)
            .options(
                num_cpus=self._cpus,
                num_gpus=self._gpus,
                max_concurrency=ITEMS + 1,
                max_restarts=0,
                scheduling_strategy="SPREAD",
                runtime_env={"env_vars": environment(self._threads)},
            )
            .remote(place)
        )
        return actor, actor.open.remote(steps)


def _gpus(device: str, cluster: Cluster) -> float:
    """Of each worker."""
    asked = cluster.settings.gpus
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise EarwitnessError(f"hardware.device {device}: a cluster has cpu and cuda; use auto")
    if kind == "cpu":
        return 0.0
    if asked == "auto":
        return 1.0 if kind == "cuda" or cluster.has_gpus() else 0.0
    if kind == "cuda" and not asked:
        raise EarwitnessError("ray.gpus: 0, and hardware.device is cuda; change one")
    return asked


@dataclass
class _Item:
    number: int
    content: Any
    losses: int = 0


@dataclass(eq=False)
class _Hand:
    """A worker, as the driver knows it."""

    actor: Any
    node: str | None = None  # None: it is not open yet
    items: dict[Any, _Item] = field(default_factory=dict)  # by the reference of its result


class _Pool:
    """The workers of one run."""

    def __init__(
        self, engine: RayEngine, settings: RayConfig, steps: Steps[Any, Any, Any, Any], wanted: int
    ) -> None:
        import ray

        self._engine, self._settings, self._steps = engine, settings, steps
        self._put = ray.put(steps)
        self._hands: list[_Hand] = []
        self._opening: dict[Any, _Hand] = {}
        self._again: deque[_Item] = deque()
        self._failed = 0  # workers that were lost before they were open, one after the other
        for _ in range(wanted):
            self._hire()

    def results(self, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Number and result of each item, as they come."""
        import ray

        new = (_Item(number, content) for number, content in enumerate(items))
        waited = False
        while self._hand_out(new):
            running = {ref: hand for hand in self._hands for ref in hand.items}
            waiting = [*running, *self._opening]
            ready, _ = ray.wait(waiting, num_returns=1, timeout=PATIENCE)
            if not ready and not waited and not any(hand.node for hand in self._hands):
                waited = True
                print("waiting for room on the cluster, or for its workers", file=sys.stderr)
            for ref in ready:
                if ref in self._opening:
                    self._open(ref)
                    continue
                hand = running[ref]
                answer = self._answer(ref, hand)
                if answer is not None:
                    yield hand.items.pop(ref).number, answer.value

    def seconds(self) -> float:
        """How long the workers that are left have computed, on average."""
        import ray

        refs = [hand.actor.seconds.remote() for hand in self._hands if hand.node]
        found = []
        for ref in refs:
            try:
                found.append(float(ray.get(ref, timeout=PATIENCE)))
            except Exception as error:
                if lost(error) is None and not isinstance(error, ray.exceptions.GetTimeoutError):
                    raise
        return sum(found) / max(1, len(found))

    def end(self) -> None:
        """Ends all workers."""
        import ray

        for hand in self._hands:
            ray.kill(hand.actor)
        self._hands.clear()

    def _hire(self) -> None:
        actor, opening = self._engine.new_worker(self._put)
        hand = _Hand(actor)
        self._hands.append(hand)
        self._opening[opening] = hand

    def _hand_out(self, new: Iterator[_Item]) -> bool:
        """Gives items to the workers that have few; whether any is left, or on its way."""
        for place in range(ITEMS):
            for hand in self._hands:
                if hand.node and len(hand.items) <= place and self._is_left(new):
                    item = self._again.popleft()
                    hand.items[hand.actor.run.remote(item.content)] = item
        return self._is_left(new) or any(hand.items for hand in self._hands)

    def _is_left(self, new: Iterator[_Item]) -> bool:
        """Whether an item waits: one that was lost, or else the next."""
        if not self._again:
            self._again.extend(islice(new, 1))
        return bool(self._again)

    def _open(self, ref: Any) -> None:
        hand = self._opening.pop(ref)
        answer = self._answer(ref, hand)
        if answer is not None:
            hand.node, self._failed = answer.value, 0

    def _answer(self, ref: Any, hand: _Hand) -> Any:
        """None: the worker was lost, and another is asked for."""
        import ray

        try:
            answer = ray.get(ref)
        except Exception as error:
            if lost(error) is None:
                raise
            self._lose(hand, error)
            return None
        if isinstance(answer, Refused):
            raise answer.error
        return answer

    def _lose(self, hand: _Hand, error: BaseException) -> None:
        import ray

        ray.kill(hand.actor)
        self._hands.remove(hand)
        node_is_there = hand.node in {node["NodeID"] for node in alive_nodes()}
        if hand.node is None:
            self._failed += 1
            if self._failed > self._settings.retries:
                raise EarwitnessError(
                    f"{self._failed} workers of the cluster ended while they loaded the encoder "
                    f"({reason(error)}); see the memory of its nodes and Ray's logs there"
                )
        for item in hand.items.values():
            item.losses += node_is_there
            if item.losses > self._settings.retries:
                raise EarwitnessError(
                    f"{self._steps.label(item.content)}: the worker that had it ended "
                    f"{item.losses} times ({reason(error)}); see the memory of its node, or take "
                    "the clips out of the dataset; what is done is saved"
                )
            self._again.append(item)
        self._hire()

"""The workers of a Ray cluster and what each has to do: items that are repeated where one is lost.

A worker (an actor) holds the steps, with their encoder, and has few items at a time, so that it
reads while it computes and no results pile up. A worker that is lost gives its items back, and
another is asked for: Ray's own restarts would keep them with an actor that may never find room.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pipeline.engine.cluster import Refused, alive_nodes, lacking, lost
from pipeline.engine.steps import Steps
from pipeline.errors import EarwitnessError, reason

ITEMS = 3  # of a worker at a time: one is computed, one read, one finished
PATIENCE = 30.0  # seconds without a worker, before that is said


@dataclass
class _Item:
    number: int
    content: Any
    lost_on: list[str | None] = field(default_factory=list)  # nodes


@dataclass(eq=False)
class _Hand:
    """A worker, as the driver knows it."""

    actor: Any
    node: str | None = None  # None: it has not opened the steps yet
    items: dict[Any, _Item] = field(default_factory=dict)  # by the reference of its result


class WorkerPool:
    """Workers that are kept from one run to the next.

    Args:
        new_worker: an actor of :class:`pipeline.engine.worker.Worker`.
        retries: how often an item is repeated whose worker ended; that of a lost node always is.
    """

    def __init__(self, new_worker: Callable[[], Any], retries: int) -> None:
        self._new_worker, self._retries = new_worker, retries
        self._hands: list[_Hand] = []
        self._opening: dict[Any, tuple[_Hand, Any]] = {}  # by reference: who opens what
        self._again: deque[_Item] = deque()
        self._failed = 0  # workers that were lost before they were open, one after the other
        self._steps: Steps[Any, Any, Any, Any]
        self._sent: Any  # the steps in the object store

    def results(
        self, steps: Steps[Any, Any, Any, Any], items: Iterable[Any], wanted: int
    ) -> Iterator[tuple[int, Any]]:
        """Number and result of each item, as they come, by up to ``wanted`` workers."""
        import ray

        self._steps, self._sent = steps, ray.put(steps)
        self._end(self._hands[wanted:])
        for hand in self._hands:
            if hand.node:  # else it still opens the steps before, and begins these after them
                self._begin(hand)
        while len(self._hands) < wanted:
            self._hire()
        try:
            yield from self._results(_Item(number, item) for number, item in enumerate(items))
        except BaseException:
            self.end()
            raise

    def seconds(self) -> float:
        """How long the workers that are left have computed in this run, on average."""
        import ray

        found = []
        for ref in [hand.actor.seconds.remote() for hand in self._hands if hand.node]:
            try:
                found.append(float(ray.get(ref, timeout=PATIENCE)))
            except Exception as error:
                if lost(error) is None and not isinstance(error, ray.exceptions.GetTimeoutError):
                    raise
        return sum(found) / max(1, len(found))

    def end(self) -> None:
        """Ends all workers."""
        self._end(self._hands)
        self._again.clear()

    def _results(self, new: Iterator[_Item]) -> Iterator[tuple[int, Any]]:
        import ray

        waited = False
        while self._hand_out(new):
            running = {ref: hand for hand in self._hands for ref in hand.items}
            ready, _ = ray.wait([*running, *self._opening], num_returns=1, timeout=PATIENCE)
            if not ready and not waited and not running:
                waited = True
                print("waiting for room on the cluster, or for its workers", file=sys.stderr)
            for ref in ready:
                if ref in self._opening:
                    self._opened(ref)
                elif (answer := self._answer(ref, running[ref])) is not None:
                    yield running[ref].items.pop(ref).number, answer.value

    def _hire(self) -> None:
        self._hands.append(_Hand(self._new_worker()))
        self._begin(self._hands[-1])

    def _begin(self, hand: _Hand) -> None:
        hand.node = None
        self._opening[hand.actor.open.remote(self._sent)] = hand, self._sent

    def _opened(self, ref: Any) -> None:
        hand, sent = self._opening.pop(ref)
        if (answer := self._answer(ref, hand)) is None:
            return
        self._failed = 0
        if sent is self._sent:
            hand.node = answer.value
        else:
            self._begin(hand)

    def _end(self, hands: list[_Hand]) -> None:
        import ray

        ending = [*hands]
        for hand in ending:
            ray.kill(hand.actor)
            self._hands.remove(hand)
        self._opening = {ref: own for ref, own in self._opening.items() if own[0] not in ending}

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

    def _answer(self, ref: Any, hand: _Hand) -> Any:
        """None: the worker was lost, and another is asked for."""
        import ray

        try:
            answer = ray.get(ref)
        except Exception as error:
            if line := lacking(error):
                raise line from None
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
        if hand.node is None:
            self._failed += 1
            if self._failed > self._retries:
                raise EarwitnessError(
                    f"{self._failed} workers of the cluster ended while they loaded the encoder "
                    f"({reason(error)}); see the memory of its nodes and Ray's logs there"
                )
        alive = {node["NodeID"] for node in alive_nodes()}
        for item in hand.items.values():
            item.lost_on.append(hand.node)
            # that a node is lost shows later than the loss of its workers, but by the next time
            losses = sum(node in alive for node in item.lost_on)
            if losses > self._retries:
                raise EarwitnessError(
                    f"{self._steps.label(item.content)}: the worker that had it ended {losses} "
                    f"times ({reason(error)}); see the memory of its node, or take the clips out "
                    "of the dataset; what is done is saved"
                )
            self._again.append(item)
        self._hire()

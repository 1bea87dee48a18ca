"""Threads that take jobs from a queue, several at a time, and give each its own answer."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Job = TypeVar("Job")
Answer = TypeVar("Answer")


class Workers(Generic[Job, Answer]):
    """``threads`` daemon threads, so that none of them holds up the end of the process.

    Args:
        run: N jobs to N answers, in their order; an exception in place of an answer is raised
            where that job was asked for. What it raises itself is raised for all of them.
        size: jobs at once, at most.
        gather: seconds that the first job waits for others.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job]], Sequence[Answer | Exception]],
        *,
        size: int = 1,
        gather: float = 0.0,
        threads: int = 1,
    ) -> None:
        self._run, self._size, self._gather = run, size, gather
        self._lock, self.running = threading.Lock(), 0  # calls of ``run``
        self._waiting: queue.SimpleQueue[tuple[Job, Future[Answer]]] = queue.SimpleQueue()
        for _ in range(threads):
            threading.Thread(target=self._work, daemon=True).start()

    async def do(self, job: Job) -> Answer:
        """The answer to one job. If the caller is cancelled before its turn, it is left out."""
        future: Future[Answer] = Future()
        self._waiting.put((job, future))
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while True:
            self._answer(self._gathered())

    def _gathered(self) -> list[tuple[Job, Future[Answer]]]:
        found = [self._waiting.get()]
        until = time.monotonic() + self._gather
        while len(found) < self._size:
            try:
                found.append(self._waiting.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
        return found

    def _answer(self, found: Sequence[tuple[Job, Future[Answer]]]) -> None:
        wanted = [pair for pair in found if pair[1].set_running_or_notify_cancel()]
        if not wanted:
            return
        self._count(1)
        try:
            answers = self._run([job for job, _ in wanted])
        except Exception as error:
            answers = [error] * len(wanted)
        finally:
            self._count(-1)
        for (_, future), answer in zip(wanted, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _count(self, more: int) -> None:
        with self._lock:
            self.running += more


def call(jobs: Sequence[Callable[[], Answer]]) -> list[Answer | Exception]:
    """Runs functions without arguments, for workers whose jobs are such."""
    answers: list[Answer | Exception] = []
    for job in jobs:
        try:
            answers.append(job())
        except Exception as error:
            answers.append(error)
    return answers

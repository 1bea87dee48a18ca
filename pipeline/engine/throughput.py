"""How long an extraction took, and its encoder."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch


@dataclass
class Report:
    """In ``seconds``, the encoder was busy for ``encoder_seconds``."""

    unit: str = "clips"
    count: int = 0
    seconds: float = 0.0
    encoder_seconds: float = 0.0

    def __str__(self) -> str:
        if not self.count:
            return f"all {self.unit} were done before"
        rate, share = self.count / self.seconds, self.encoder_seconds / self.seconds
        return (
            f"{self.count} {self.unit}, {rate:.1f} a second, {share:.0%} of the time in the encoder"
        )


class Clock:
    """Sums the durations of work on a device, without waiting for the device in between."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds = 0.0
        self._begun = 0.0
        self._events: list[torch.cuda.Event] = []  # begin, end, begin, end, …

    def begin(self) -> None:
        self._mark()
        self._begun = time.perf_counter()

    def end(self) -> None:
        self._mark()
        self._seconds += time.perf_counter() - self._begun

    def seconds(self) -> float:
        if not self._cuda:
            return self._seconds
        torch.cuda.synchronize()
        pairs = zip(self._events[::2], self._events[1::2], strict=True)
        return sum(begin.elapsed_time(end) for begin, end in pairs) / 1000

    def _mark(self) -> None:
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._events.append(event)

"""A long recording as windows, cut while it is read: at fixed steps, or where it is quietest.

Only the window that is cut, and what is looked at to cut it, is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.audio.waveforms import Samples
from pipeline.errors import EarwitnessError

SHORTEST = 0.5  # seconds of a window
FRAME = 0.02  # seconds; the level is that of 11 frames around each
AROUND = 5  # frames on each side
FLOOR = 1e-10  # of the power: what is below −100 dB is silence
NEARNESS = 6.0  # dB that a cut half a window away from the wanted place must be quieter


@dataclass(frozen=True)
class Cutting:
    """How a recording becomes windows.

    ``fixed``: windows of ``seconds``, one every ``hop`` seconds; the last ends with the recording,
    and a rest of less than a second belongs to it. ``silence``: windows from half of ``seconds`` to
    one and a half, each cut at the quietest place near ``seconds``; they do not overlap.
    """

    method: Literal["fixed", "silence"]
    seconds: float = 10.0
    hop: float | None = None  # seconds, of ``fixed`` alone; None: windows do not overlap

    def __post_init__(self) -> None:
        if not SHORTEST <= self.seconds < float("inf"):
            raise EarwitnessError(
                f"a window of {self.seconds:g} seconds; give at least {SHORTEST:g}"
            )
        if self.hop is None:
            return
        if self.method != "fixed":
            raise EarwitnessError("windows that follow silence have no fixed hop; give fixed ones")
        if not SHORTEST <= self.hop <= self.seconds:
            raise EarwitnessError(
                f"a hop of {self.hop:g} seconds; give {SHORTEST:g} to the window's "
                f"{self.seconds:g}, so that no sound is left out"
            )


def cut(blocks: Iterable[Samples], rate: int, cutting: Cutting) -> Iterator[tuple[int, Samples]]:
    """The windows of a recording, each with the sample that it begins at.

    Args:
        blocks: the recording's sound, (n,) each, of any sizes: they do not change the windows.
        rate: of the samples, in Hz.
    """
    ahead = _Ahead(blocks)
    if cutting.method == "silence":
        return _at_silence(ahead, rate, cutting.seconds)
    length = round(cutting.seconds * rate)
    hop = length if cutting.hop is None else round(cutting.hop * rate)
    return _at_steps(ahead, length, hop, min(rate, length // 2))


class _Ahead:
    """Samples from ``start`` on, as many of them as were asked for."""

    def __init__(self, blocks: Iterable[Samples]) -> None:
        self._blocks = iter(blocks)
        self.start, self.samples = 0, np.zeros(0, np.float32)

    def fill(self, count: int) -> int:
        """Reads until ``count`` are there, or all; returns how many are."""
        parts, there = [self.samples], len(self.samples)
        while there < count and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            there += len(block)
        if len(parts) > 1:
            self.samples = np.concatenate(parts)
        return there

    def drop(self, count: int) -> None:
        self.start, self.samples = self.start + count, self.samples[count:]


def _at_steps(ahead: _Ahead, length: int, hop: int, least: int) -> Iterator[tuple[int, Samples]]:
    while ahead.fill(length + least) >= length + least:
        yield ahead.start, ahead.samples[:length]
        ahead.drop(hop)
    if len(ahead.samples):
        yield ahead.start, ahead.samples


def _at_silence(ahead: _Ahead, rate: int, seconds: float) -> Iterator[tuple[int, Samples]]:
    half = round(seconds * rate / 2)
    while (there := ahead.fill(4 * half)) > 3 * half:
        length = _quietest(ahead.samples, rate, half, min(3 * half, there - half))
        yield ahead.start, ahead.samples[:length]
        ahead.drop(length)
    if len(ahead.samples):
        yield ahead.start, ahead.samples


def _quietest(samples: Samples, rate: int, half: int, last: int) -> int:
    """The sample from ``half`` to ``last`` to cut at: quiet, and near to twice ``half``."""
    frame = max(1, round(FRAME * rate))
    looked_at = samples[half : half + (last - half) // frame * frame].reshape(-1, frame)
    power = np.square(looked_at, dtype=np.float64).mean(axis=1)
    edged = np.pad(power, AROUND, mode="edge")
    mean = np.convolve(edged, np.full(2 * AROUND + 1, 1 / (2 * AROUND + 1)), mode="valid")
    place = half + frame * np.arange(len(power)) + frame // 2
    away = np.abs(place - 2 * half) / half
    cost = 10 * np.log10(np.maximum(mean, FLOOR)) + NEARNESS * away
    return int(place[cost.argmin()])

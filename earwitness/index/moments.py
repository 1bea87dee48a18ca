"""Moments inside recordings: which windows are embedded, and spans by the windows' scores."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from earwitness.index.scoring import Values

WINDOWS = ((1.0, 0.5), (2.0, 1.0))  # (length, step) in seconds
LONGEST = max(length for length, _ in WINDOWS)
CELL = 0.25  # seconds, of a score in time
# a moment is where the scores are above their mean over the recording by this share of the highest;
# chosen on the validation split of soundscapes, see benchmarks/index.py
THRESHOLD = 0.4
EVEN = 1e-6  # of a score: what is as even as this is one moment
REACH = 8.0  # seconds, from the highest score to a moment's start or end
SHORTEST = 1.0  # seconds of those: the rest beside a better one is none
AGAIN = 0.5  # a recording's further moments rise above its mean by this share of its best, at least


class Moment(NamedTuple):
    """A span of one recording, in seconds; ``score`` is the highest in it."""

    score: float
    entry: int
    start: float
    end: float


def window_spans(seconds: float, start: float = 0.0, stop: float = np.inf) -> NDArray[np.float64]:
    """(n, 2) starts and ends of a recording's windows, those that begin in [start, stop).

    Windows of each length come one every step; the last ends with the recording. A recording that
    is shorter than all of them is one window.
    """
    found = []
    for length, step in WINDOWS:
        if length < seconds:
            starts = np.arange(0, np.ceil((seconds - length) / step - 1e-9) + 1) * step
            starts = np.minimum(starts, seconds - length)
            found.append(np.stack([starts, starts + length], axis=1))
    spans = np.concatenate(found) if found else np.array([[0.0, seconds]])
    return spans[(spans[:, 0] >= start) & (spans[:, 0] < stop)]


def curve(spans: NDArray[np.float32], values: Values) -> NDArray[np.float64]:
    """(cells,) a recording's score in time: of each cell the mean of the windows that cover it."""
    bounds = np.rint(spans / CELL).astype(np.int64)
    starts, stops = bounds[:, 0], np.maximum(bounds[:, 1], bounds[:, 0] + 1)
    total, count = (np.zeros(int(stops.max()) + 1) for _ in range(2))
    for sums, weight in ((total, values.astype(np.float64)), (count, np.ones(len(values)))):
        np.add.at(sums, starts, weight)
        np.subtract.at(sums, stops, weight)
    covered = np.rint(np.cumsum(count)[:-1])
    mean: NDArray[np.float64] = np.cumsum(total)[:-1] / np.maximum(covered, 1)
    mean[covered == 0] = -np.inf
    return mean


def moments_of(entry: int, spans: NDArray[np.float32], values: Values) -> Iterator[Moment]:
    """A recording's moments, best first; they do not overlap.

    The first is around the highest score: the run of cells near it whose sum above the threshold is
    the greatest. So are the next, in what is left.
    """
    cells, end = curve(spans, values), float(spans[:, 1].max())
    middle = float(cells[np.isfinite(cells)].mean())
    least = middle + AGAIN * (float(cells.max()) - middle)
    reach = round(REACH / CELL)
    is_first = True
    while True:
        peak = int(cells.argmax())
        highest = float(cells[peak])
        if not np.isfinite(highest) or highest < least:
            return
        low, high = max(0, peak - reach), min(len(cells), peak + reach + 1)
        threshold = middle + THRESHOLD * (highest - middle) - EVEN
        first, stop = _best_run(cells[low:high] - threshold, peak - low)
        first, stop = first + low, stop + low
        cells[first:stop] = -np.inf
        if is_first or (stop - first) * CELL >= SHORTEST:
            yield Moment(highest, entry, first * CELL, min(stop * CELL, end))
        is_first = False


def _best_run(above: NDArray[np.float64], peak: int) -> tuple[int, int]:
    """The run [first, stop) with ``peak`` in it whose sum is the greatest."""
    left = np.cumsum(above[peak::-1])
    right = np.cumsum(above[peak:])
    return peak - int(left.argmax()), peak + int(right.argmax()) + 1


def best_moments(
    values: Values, spans: NDArray[np.float32], counts: NDArray[np.int64], top: int | None
) -> list[Moment]:
    """The best moments of all recordings, best first.

    Args:
        values: (W,) scores of all windows. spans: (W, 2). counts: (E,) windows of each recording.
        top: so many at most; None: all.
    """
    starts = np.cumsum(counts) - counts
    entries = np.flatnonzero(counts)
    if not len(entries):
        return []
    highest = np.maximum.reduceat(values, starts[entries])  # no moment is above its best window
    found: list[tuple[float, int, float, Moment]] = []
    for at in np.argsort(-highest, kind="stable").tolist():
        full = top is not None and len(found) >= top
        if highest[at] == -np.inf or (full and float(highest[at]) < found[0][0]):
            break
        entry = int(entries[at])
        own = slice(starts[entry], starts[entry] + counts[entry])
        for moment in moments_of(entry, spans[own], values[own]):
            item = (moment.score, -entry, -moment.start, moment)
            if top is None or len(found) < top:
                heapq.heappush(found, item)
            elif item > found[0]:
                heapq.heapreplace(found, item)
            else:
                break
    return [moment for *_, moment in sorted(found, reverse=True)]

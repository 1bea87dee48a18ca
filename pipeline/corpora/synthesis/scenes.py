"""The content of a synthesised clip: its events, their manner and order, and its background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from pipeline.corpora.synthesis.backgrounds import BACKGROUNDS
from pipeline.corpora.synthesis.events import EVENTS

Level = Literal["low", "", "high"]  # of pitch or loudness; "" is normal, and never mentioned

LEVELS: tuple[Level, ...] = ("low", "", "high")
QUIET = 0.25  # share of clips with no background
TOGETHER = 0.4  # how often two events overlap that may
LEAD = 0.15  # seconds before the first event
PAUSE = (0.1, 0.4)  # seconds between events in sequence
SHORTEST = 0.9  # seconds of a group of events, at least
MANY = (4, 6)  # repetitions of a counted event that captions call many
OFTEN = (1.0, 2.0, 2.0, 3.0)  # weights of once, twice, three times, many
SPREAD = 1.6  # a counted event repeats at least once in so many of its lengths


@dataclass(frozen=True)
class Sounding:
    """One event: ``count`` times in ``seconds`` from ``start``; a ``count`` of 0 means it lasts."""

    kind: str
    pitch: Level
    loudness: Level
    count: int
    start: float
    seconds: float


@dataclass(frozen=True)
class Scene:
    """Groups follow one another; the events of a group happen at the same time."""

    seconds: float
    background: str | None
    strength: Level
    groups: tuple[tuple[Sounding, ...], ...]

    @property
    def soundings(self) -> tuple[Sounding, ...]:
        return tuple(sounding for group in self.groups for sounding in group)

    @property
    def labels(self) -> tuple[str, ...]:
        """The kinds of event in the order of their starts, then the background."""
        background = (self.background,) if self.background else ()
        return tuple(sounding.kind for sounding in self.soundings) + background


def draw_scene(rng: Generator, seconds: tuple[float, float], max_events: int) -> Scene:
    """A random scene of 1 to ``max_events`` different events; higher numbers are likelier.

    Args:
        seconds: the shortest and the longest duration.
    """
    length = round(float(rng.uniform(*seconds)), 2)
    most = max(1, min(max_events, len(EVENTS), int((length - LEAD) / (SHORTEST + PAUSE[1]))))
    weights = range(1, most + 1)
    count = int(rng.choice(most, p=[weight / sum(weights) for weight in weights])) + 1
    kinds = [str(kind) for kind in rng.choice(list(EVENTS), size=count, replace=False)]
    quiet = rng.random() < QUIET
    background = None if quiet else str(rng.choice(list(BACKGROUNDS)))
    groups = _group(rng, kinds)
    return Scene(length, background, _level(rng), _place(rng, groups, length))


def _group(rng: Generator, kinds: list[str]) -> list[list[str]]:
    """Pairs of neighbours, at random, where at least one of the two lasts."""
    groups: list[list[str]] = []
    for kind in kinds:
        before = groups[-1] if groups else []
        may = len(before) == 1 and not (EVENTS[kind].unit and EVENTS[before[0]].unit)
        if may and rng.random() < TOGETHER:
            before.append(kind)
        else:
            groups.append([kind])
    return groups


def _place(
    rng: Generator, groups: list[list[str]], length: float
) -> tuple[tuple[Sounding, ...], ...]:
    """Divides the clip's time among the groups."""
    pauses = rng.uniform(*PAUSE, len(groups))
    shares = rng.uniform(0.8, 1.2, len(groups))
    seconds = shares / shares.sum() * max(0.5 * length, length - LEAD - pauses.sum())
    placed, start = [], LEAD
    for group, share, pause in zip(groups, seconds.tolist(), pauses.tolist(), strict=True):
        placed.append(tuple(_sounding(rng, kind, start, share, len(group) > 1) for kind in group))
        start += share + pause
    return tuple(placed)


def _sounding(rng: Generator, kind: str, start: float, seconds: float, together: bool) -> Sounding:
    event = EVENTS[kind]
    pitch = _level(rng) if event.pitched else ""
    loudness = _level(rng)
    if not event.unit:
        return Sounding(kind, pitch, loudness, 0, start, seconds)
    room = max(1, int(seconds / (1.2 * event.unit)))
    counts = np.array([1, 2, 3, rng.integers(MANY[0], MANY[1] + 1)])
    weights = np.where(counts <= room, OFTEN, 0.0)
    count = int(rng.choice(counts, p=weights / weights.sum()))
    lasting = seconds if together else min(seconds, SPREAD * event.unit * count)
    return Sounding(kind, pitch, loudness, count, start, lasting)


def _level(rng: Generator) -> Level:
    return LEVELS[int(rng.integers(len(LEVELS)))]

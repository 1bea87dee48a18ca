"""95 % intervals of metrics, over clips, and over seeds where a system is trained with several.

Clips are resampled (pipeline/metrics/resampling.py), all seeds' captions of a clip together, as the
seeds caption the same clips. The mean over the seeds of a resampled set's values then has the
percentiles 2.5 and 97.5. Two things are added, as percentiles alone are too narrow:

- Their distance from the metric is stretched by Student's t over the normal quantile and by
  √(N / (N − 1)), which only shows below 100 clips (Hesterberg 2015, "What teachers should know
  about the bootstrap", expanded percentiles).
- Two to five seeds are too few to be drawn from with replacement: the mean of a draw never leaves
  their range, in which the mean of all seeds is 3 times in 4 with three. So a seed's part is drawn
  as Student's t with S − 1 degrees of freedom, times the seeds' standard deviation over √S: the
  distribution of a mean of S values around what is found, added to the clips' part as Tsui and
  Weerahandi 1989 do for two sources of noise.

benchmarks/intervals.py measures how often such an interval has the truth in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.special import ndtri, stdtrit

from pipeline.metrics.names import bounds, is_metric
from pipeline.metrics.resampling import SEED, Measured, replicates
from pipeline.metrics.types import Values

LEVEL = 0.95


class Interval(NamedTuple):
    """A metric of one system; ``low`` and ``high`` are None where it has no interval."""

    mean: float  # over seeds
    low: float | None
    high: float | None
    sd: float | None  # over seeds; None where there is one
    by_seed: dict[int, float]


class Scored(Protocol):
    """What is known of one system with one seed."""

    @property
    def corpus(self) -> Mapping[str, float]:
        """By metric, counts too."""

    @property
    def measured(self) -> Measured:
        """Its clips."""


class SeedScores(NamedTuple):
    """The least that there is of one system with one seed."""

    corpus: Mapping[str, float]
    measured: Measured


Intervals = dict[str, Interval]  # by metric


def intervals(systems: Mapping[str, Mapping[int, Scored]], resamples: int) -> dict[str, Intervals]:
    """Of every metric that a system has with all of its seeds.

    Args:
        systems: a system's name → seed → its scores, all of the same clips.
        resamples: B; 0 leaves the limits out.
    """
    each = {
        _key(name, seed): own.measured
        for name, seeds in systems.items()
        for seed, own in seeds.items()
    }
    drawn = replicates(each, resamples)
    return {
        name: {
            metric: _interval(
                metric,
                {seed: own.corpus[metric] for seed, own in seeds.items()},
                [drawn[_key(name, seed)].get(metric) for seed in seeds],
                next(iter(seeds.values())).measured,
            )
            for metric in common_metrics([own.corpus for own in seeds.values()])
        }
        for name, seeds in systems.items()
    }


def common_metrics(seeds: list[Mapping[str, float]]) -> list[str]:
    """The metrics that were made with every seed."""
    first, *others = seeds
    return [name for name in first if is_metric(name) and all(name in own for own in others)]


def _key(name: str, seed: int) -> str:
    return f"{name} {seed}"


def _interval(
    metric: str, by_seed: dict[int, float], drawn: list[Values | None], measured: Measured
) -> Interval:
    values = np.array([*by_seed.values()])
    mean = float(values.mean())
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    made = [each for each in drawn if each is not None]
    limits = None
    if len(made) == len(drawn):
        limits = limits_of(mean, np.mean(made, axis=0), made_clips(measured, metric), values)
    if limits is None:
        return Interval(mean, None, None, sd, by_seed)
    low, high = np.clip(limits, *bounds(metric))
    return Interval(mean, float(low), float(high), sd, by_seed)


def made_clips(measured: Measured, metric: str) -> int:
    """The number of clips that have anything to do with a metric."""
    return int(measured.sums[metric].clips.any(axis=1).sum())


def limits_of(
    centre: float, drawn: Values, clips: int, by_seed: Values
) -> tuple[float, float] | None:
    """The limits of an interval; None where the clips do not differ, or are fewer than two.

    Args:
        centre: what was found.
        drawn: (B,) of the resampled sets; NaN where one has no clip that has a value.
        clips: N.
        by_seed: (S,) what was found with each seed.
    """
    drawn = drawn[np.isfinite(drawn)]
    if clips < 2 or len(drawn) == 0 or np.ptp(drawn) == 0:
        return None
    tail = (1 - LEVEL) / 2
    stretch = stdtrit(clips - 1, tail) / ndtri(tail) * np.sqrt(clips / (clips - 1))
    drawn = centre + (drawn - centre) * stretch + seed_part(by_seed, len(drawn))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def seed_part(by_seed: Values, resamples: int) -> Values:
    """(B,) errors of the mean over seeds; zeros where there is one.

    They are the quantiles of Student's t in an order of their own, not draws, which would be off
    at the ends.
    """
    seeds = len(by_seed)
    if seeds < 2:
        return np.zeros(resamples)
    order = np.random.default_rng(SEED + 1).permutation(resamples)
    quantiles = stdtrit(seeds - 1, (order + 0.5) / resamples)
    return np.asarray(quantiles * by_seed.std(ddof=1) / np.sqrt(seeds))


def as_json(found: Intervals, clips: int, seeds: list[int], resamples: int) -> dict[str, Any]:
    """What ``intervals/<dataset>/<system>.json`` has; values have six decimals."""
    return {
        "clips": clips,
        "seeds": seeds,
        "resamples": resamples,
        "metrics": {name: _rounded(own) for name, own in found.items()},
    }


def _rounded(own: Interval) -> dict[str, Any]:
    def short(value: float | None) -> float | None:
        return None if value is None else round(value, 6)

    by_seed = {str(seed): short(value) for seed, value in own.by_seed.items()}
    return {**{key: short(getattr(own, key)) for key in ("mean", "low", "high", "sd")},
            "by_seed": by_seed}  # fmt: skip

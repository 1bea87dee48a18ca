"""Is one system better than another on the same clips, and by how much?

The difference of a metric, its 95 % interval by the paired bootstrap (both systems on the same
resampled sets), and p by a paired permutation test (Fisher 1935; Noreen 1989; of machine
translation Riezler and Maxwell 2005): if the two systems are alike, each clip's two captions may as
well change places. A clip's statistics are exchanged whole, so that BLEU and METEOR are those of
the systems so made, and CIDEr-D's document frequencies, which are the references', stay.

With several seeds, the pairs are of equal seeds, and a clip's captions change places with all seeds
at once: the seeds share the clip. A model is the same on all clips, so that its captions do not
change places clip by clip with those of another training: the clips' exchanges alone would call
two trainings of one system different. So a seed's part is added to the difference of each
exchange, as to intervals (pipeline/metrics/intervals.py). With one seed the question is whether
these two trained systems differ, not whether two trainings would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.intervals import Scored, common_metrics, limits_of, made_clips, seed_part
from pipeline.metrics.names import bounds
from pipeline.metrics.resampling import SEED, VALUES, replicates
from pipeline.metrics.types import Sums, Values

PERMUTATIONS = 10_000
EQUAL = 1e-6  # differences that are one: metrics are written with six decimals
EXACT = 13  # clips that differ, at most: then all 2^13 exchanges are looked at

Seeds = Mapping[int, Scored]  # one system, by seed


class Difference(NamedTuple):
    """Of one metric: a − b. ``p_holm`` is corrected for all pairs that are compared.

    The limits are None where the clips do not differ, or are fewer than two.
    """

    a: float
    b: float
    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float


Pair = tuple[str, str]


def compare(
    systems: Mapping[str, Seeds], resamples: int, permutations: int = PERMUTATIONS
) -> dict[Pair, dict[str, Difference]]:
    """Every pair of systems, by metric; the metrics that both have with every seed.

    Args:
        systems: two or more of the same clips, with the same seeds.
        resamples: of the bootstrap.
        permutations: exchanges that are drawn where there are too many to look at all.
    """
    drawn = replicates(
        {f"{n} {s}": own.measured for n, seeds in systems.items() for s, own in seeds.items()},
        resamples,
    )
    found: dict[Pair, dict[str, Difference]] = {}
    for a, b in combinations(systems, 2):
        own = [each.corpus for name in (a, b) for each in systems[name].values()]
        metrics = [m for m in common_metrics(own) if _has_sums(systems[a], m)]
        p = _p_values(systems[a], systems[b], metrics, permutations)
        found[a, b] = {}
        for metric in metrics:
            by_seed = _differences(systems[a], systems[b], metric)
            moved = [drawn[f"{a} {s}"][metric] - drawn[f"{b} {s}"][metric] for s in systems[a]]
            clips = made_clips(next(iter(systems[a].values())).measured, metric)
            mean = float(by_seed.mean())
            limits = limits_of(mean, np.mean(moved, axis=0), clips, by_seed)
            low, high = (None, None) if limits is None else _possible(metric, limits)
            values = (_mean(systems[a], metric), _mean(systems[b], metric))
            found[a, b][metric] = Difference(*values, mean, low, high, p[metric], p[metric])
    return _corrected(found)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for being several (Holm 1979), in the same order."""
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    stepped = np.maximum.accumulate(np.minimum(np.asarray(p)[order] * factors, 1.0))
    corrected = np.empty(len(p))
    corrected[order] = stepped
    return corrected.tolist()


def _possible(metric: str, limits: tuple[float, float]) -> tuple[float, float]:
    """No further from 0 than two values of the metric can lie apart."""
    least, largest = bounds(metric)
    low, high = np.clip(limits, least - largest, largest - least)
    return float(low), float(high)


def _corrected(found: dict[Pair, dict[str, Difference]]) -> dict[Pair, dict[str, Difference]]:
    """With ``p_holm``, over the pairs that have a metric."""
    for metric in dict.fromkeys(metric for each in found.values() for metric in each):
        pairs = [pair for pair, each in found.items() if metric in each]
        values = holm([found[pair][metric].p for pair in pairs])
        for pair, value in zip(pairs, values, strict=True):
            found[pair][metric] = found[pair][metric]._replace(p_holm=value)
    return found


def _has_sums(seeds: Seeds, metric: str) -> bool:
    """The vocabulary has none: it is no sum over clips."""
    return metric in next(iter(seeds.values())).measured.sums


def _mean(seeds: Seeds, metric: str) -> float:
    return float(np.mean([own.corpus[metric] for own in seeds.values()]))


def _differences(a: Seeds, b: Seeds, metric: str) -> Values:
    """(S,)"""
    return np.array([a[seed].corpus[metric] - b[seed].corpus[metric] for seed in a])


def _p_values(a: Seeds, b: Seeds, metrics: Sequence[str], permutations: int) -> dict[str, float]:
    """Two-sided, by metric: the share of exchanges that make as large a difference."""
    statistics = {metric: [_both(a[s], b[s], metric) for s in a] for metric in metrics}
    clips = _that_differ([pair for each in statistics.values() for pair in each])
    exact = len(clips) <= EXACT
    total = 2 ** len(clips) if exact else permutations
    by_seed = {metric: _differences(a, b, metric) for metric in metrics}
    noise = {metric: seed_part(own, total) for metric, own in by_seed.items()}
    as_large, at = dict.fromkeys(metrics, 0), 0
    for swaps in _exchanges(len(clips), total, exact):
        for metric, each in statistics.items():
            moved = np.mean([_exchanged(*pair, clips, swaps) for pair in each], axis=0)
            moved = moved + noise[metric][at : at + len(swaps)]
            limit = abs(by_seed[metric].mean()) - EQUAL
            as_large[metric] += int((~(np.abs(moved) < limit)).sum())
        at += len(swaps)
    more = 0 if exact else 1  # what was found is among all exchanges, and counts beside drawn ones
    return {metric: (count + more) / (total + more) for metric, count in as_large.items()}


def _that_differ(pairs: Sequence[tuple[Sums, Sums]]) -> NDArray[np.intp]:
    """The places of the clips whose statistics are not the same for both systems."""
    differ = [(own.clips != other.clips).any(axis=1) for own, other in pairs]
    return np.flatnonzero(np.any(differ, axis=0))


def _both(a: Scored, b: Scored, metric: str) -> tuple[Sums, Sums]:
    return a.measured.sums[metric], b.measured.sums[metric]


def _exchanges(clips: int, total: int, exact: bool) -> Iterator[Values]:
    """(b, n) blocks, 1 where a clip's captions change places; ``total`` rows in all."""
    if exact:
        numbers = np.arange(total)[:, None] >> np.arange(clips)[None, :]
        yield (numbers & 1).astype(np.float64)
        return
    generator = np.random.default_rng(SEED)
    step = max(VALUES // clips, 1)
    for at in range(0, total, step):
        size = (min(step, total - at), clips)
        yield generator.integers(2, size=size).astype(np.float64)


def _exchanged(a: Sums, b: Sums, clips: NDArray[np.intp], swaps: Values) -> Values:
    """(b,) differences of the metric after each exchange."""
    moved = swaps @ (b.clips[clips] - a.clips[clips])
    return a.formula(a.clips.sum(axis=0) + moved) - b.formula(b.clips.sum(axis=0) - moved)

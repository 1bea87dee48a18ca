"""The bootstrap over clips: metrics of test sets that are drawn from a test set's own clips.

A resampled set is as large as the test set, drawn from it with replacement (Efron 1979), and a row
of weights says how often it has each clip. Sums over clips are a product with the weights, so that
no metric is computed clip by clip again. N clips, B resampled sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.metrics.cider_d_resampled import ResampledCiderD
from pipeline.metrics.types import ScoredSet, Sums, Values

SEED = 13  # of all that is drawn: the same scores have the same intervals
VALUES = 1 << 22  # weights that are held at once: 32 MB
# with more, CIDEr-D has the whole test set's document frequencies: they hardly differ then, and
# counts of n-grams would fill the memory
CIDER_CLIPS = 5000


@dataclass(frozen=True)
class Measured:
    """One system's N clips, as they are resampled."""

    sums: Mapping[str, Sums]  # by metric
    cider_d: Mapping[str, Values] = field(default_factory=dict)  # (N,) by metric, see ClipScores
    tokens: ScoredSet | None = None  # for CIDEr-D; references that are one object are used once
    cider_d_clips: Values | None = None  # (N,)

    @property
    def clips(self) -> int:
        """N"""
        return len(next(iter(self.sums.values())).clips)

    def values(self) -> dict[str, float]:
        """Each metric of the test set itself."""
        return {
            metric: float(sums.formula(sums.clips.sum(axis=0)))
            for metric, sums in self.sums.items()
        }


Replicates = dict[str, dict[str, Values]]  # system → metric → (B,)


def replicates(systems: Mapping[str, Measured], resamples: int) -> Replicates:
    """Every metric of every system on the same B resampled sets.

    CIDEr-D has the document frequencies of each resampled set: what a set of other clips would
    have.

    Args:
        systems: of the same N clips.
        resamples: B.
    """
    clips = next((own.clips for own in systems.values() if own.sums), 0)
    if clips == 0 or resamples == 0:
        return {name: {} for name in systems}
    scorers = _scorers(systems)
    parts: list[Replicates] = []
    for weights in draws(clips, resamples):
        moved = _moved(systems, scorers, weights)
        parts.append({name: _values(own, weights, moved[name]) for name, own in systems.items()})
    return {
        name: {metric: np.concatenate([part[name][metric] for part in parts]) for metric in own}
        for name, own in parts[0].items()
    }


def draws(clips: int, resamples: int) -> Iterator[Values]:
    """(b, N) weights, ``resamples`` rows in all, the same each time."""
    generator = np.random.default_rng(SEED)
    step = max(VALUES // max(clips, 1), 1)
    for at in range(0, resamples, step):
        rows = min(step, resamples - at)
        drawn = generator.integers(clips, size=(rows, clips)) + np.arange(rows)[:, None] * clips
        counts = np.bincount(drawn.ravel(), minlength=rows * clips)
        yield counts.reshape(rows, clips).astype(np.float64)


def _values(own: Measured, weights: Values, moved: Mapping[str, Values]) -> dict[str, Values]:
    """(b,) by metric; metrics of the same statistics share one product."""
    products: dict[int, Values] = {}
    found = {}
    for metric, sums in own.sums.items():
        if id(sums.clips) not in products:
            products[id(sums.clips)] = weights @ sums.clips
        summed = products[id(sums.clips)]
        if metric in moved:
            summed = summed.copy()
            summed[:, 0] += moved[metric]
        found[metric] = sums.formula(summed)
    return found


def _scorers(systems: Mapping[str, Measured]) -> dict[int, ResampledCiderD]:
    """One for all systems that share references."""
    found: dict[int, ResampledCiderD] = {}
    for name, own in systems.items():
        if own.tokens is not None and own.cider_d and own.clips <= CIDER_CLIPS:
            key = id(own.tokens.references)
            if key not in found:
                found[key] = ResampledCiderD(own.tokens.references)
            found[key].add(name, own.tokens.candidates)
    return found


def _moved(
    systems: Mapping[str, Measured], scorers: Mapping[int, ResampledCiderD], weights: Values
) -> dict[str, dict[str, Values]]:
    """By system and metric, (b,) what a set's own document frequencies add to its sum of values."""
    moved: dict[str, dict[str, Values]] = {name: {} for name in systems}
    for scorer in scorers.values():
        shares = {name: np.stack([*systems[name].cider_d.values()]) for name in scorer.names}
        for name, summed in scorer.sums(weights, shares).items():
            own = systems[name]
            assert own.cider_d_clips is not None
            differences = summed - weights @ (shares[name] * own.cider_d_clips).T
            moved[name] = dict(zip(own.cider_d, differences.T, strict=True))
    return moved

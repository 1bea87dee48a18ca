"""What metrics read and what they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class ScoredSet(NamedTuple):
    """One system's candidates, and for each the captions that it is compared with (one or more)."""

    candidates: Sequence[str]  # N
    references: Sequence[Sequence[str]]  # N × R


Pair = tuple[str, tuple[str, ...]]  # a candidate and its references


class Sums(NamedTuple):
    """What a corpus value is made of: statistics that are summed over the clips, and a formula.

    So the value of any other test set of these clips, a resampled one or one of two systems' clips,
    is the formula of a product of matrices.
    """

    clips: Values  # (N, K) statistics
    formula: Callable[[Values], Values]  # (…, K) sums → (…) values


class ClipScores(NamedTuple):
    """One metric of one system: of the corpus, and of each of its N clips.

    A clip whose value cannot be made has NaN; the corpus value is then of the other clips, and NaN
    where there are none.
    """

    corpus: float
    clips: Values  # (N,)
    sums: Sums | None = None  # None: the corpus value is the mean over clips
    # (N,) how much of CIDEr-D, which hangs on the other clips, is in each clip's value; None: none
    cider_d: Values | None = None


class Found(NamedTuple):
    """One metric of several systems, by a program that some pairs break."""

    scores: dict[str, ClipScores]  # by system; NaN where a clip's pair is among the unscored
    unscored: dict[Pair, str]  # why


def pairs_of(chosen: ScoredSet) -> list[Pair]:
    """N"""
    return [(candidate, tuple(references)) for candidate, references in zip(*chosen, strict=True)]


def averaged(clips: Values) -> ClipScores:
    """A metric whose corpus value is the mean over the clips that have one."""
    made = clips[~np.isnan(clips)]
    return ClipScores(float(made.mean()) if made.size else float("nan"), clips)


def mean_sums(values: Values, counts: Values | None = None) -> Sums:
    """Of a mean: over the clips that have a value, or over ``counts`` (N,) items of each clip.

    Args:
        values: (N,) of each clip, or the sum over its items; NaN where it has none.
    """
    made = ~np.isnan(values)
    counts = made.astype(np.float64) if counts is None else counts
    return Sums(np.stack([np.where(made, values, 0.0), counts], axis=1), quotient)


def quotient(sums: Values) -> Values:
    """(…) the first of (…, 2) over the second; NaN where that is 0."""
    return divided(sums[..., 0], sums[..., 1], float("nan"))


def divided(values: Values, by: Values, otherwise: float = 0.0) -> Values:
    """values / by, and ``otherwise`` where ``by`` is 0."""
    out = np.full(np.shape(values), otherwise)
    return np.divide(values, by, out=out, where=by != 0)

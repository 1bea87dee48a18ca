"""What metrics read and what they return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class ScoredSet(NamedTuple):
    """One system's candidates, and for each the captions that it is compared with (one or more)."""

    candidates: Sequence[str]  # N
    references: Sequence[Sequence[str]]  # N × R


Pair = tuple[str, tuple[str, ...]]  # a candidate and its references


class ClipScores(NamedTuple):
    """One metric of one system: of the corpus, and of each of its N clips.

    A clip whose value cannot be made has NaN; the corpus value is then of the other clips, and NaN
    where there are none.
    """

    corpus: float
    clips: Values  # (N,)


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

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


class ClipScores(NamedTuple):
    """One metric of one system: of the corpus, and of each of its N clips."""

    corpus: float
    clips: Values  # (N,)


def averaged(clips: Values) -> ClipScores:
    """A metric whose corpus value is the mean over clips."""
    return ClipScores(float(clips.mean()), clips)

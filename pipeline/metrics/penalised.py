"""Scores that a fluency error takes most of: the penalty of FENSE (Zhou et al. 2022)."""

from __future__ import annotations

import numpy as np

from pipeline.metrics.scores import ClipScores, Values, averaged


def penalised(
    score: ClipScores, error_probability: Values, threshold: float, penalty: float
) -> ClipScores:
    """score × (1 − penalty) where the error's probability is above the threshold, clip by clip.

    Args:
        error_probability: (N,) of the class "error" of the fluency detector.
        threshold: 0.9 in FENSE.
        penalty: 0.9 in FENSE.
    """
    return averaged(score.clips * np.where(error_probability > threshold, 1 - penalty, 1.0))

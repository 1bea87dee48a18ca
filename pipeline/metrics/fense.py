"""FENSE (Zhou et al. 2022, "Can audio captions be evaluated with image caption metrics?")."""

from __future__ import annotations

import numpy as np

from pipeline.metrics.types import ClipScores, Values, averaged


def fense(
    sbert_sim: ClipScores, error_probability: Values, threshold: float = 0.9, penalty: float = 0.9
) -> ClipScores:
    """SBERT similarity × (1 − penalty) for the clips where the detector is sure of a fluency error.

    Args:
        error_probability: (N,) of the class "error" of the fluency detector.
        threshold: an error counts where its probability is above it.
    """
    kept = np.where(error_probability > threshold, 1 - penalty, 1.0)
    part = None if sbert_sim.cider_d is None else sbert_sim.cider_d * kept
    return averaged(sbert_sim.clips * kept)._replace(cider_d=part)

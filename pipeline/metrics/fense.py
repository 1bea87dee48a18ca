"""FENSE (Zhou et al. 2022, "Can audio captions be evaluated with image caption metrics?")."""

from __future__ import annotations

from pipeline.metrics.penalised import penalised
from pipeline.metrics.scores import ClipScores, Values


def fense(
    sbert_sim: ClipScores,
    error_probability: Values,
    threshold: float = 0.9,
    penalty: float = 0.9,
) -> ClipScores:
    """SBERT similarity, less nine tenths of it where the detector is sure of a fluency error."""
    return penalised(sbert_sim, error_probability, threshold, penalty)

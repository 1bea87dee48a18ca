"""SPIDEr-FL (DCASE 2023, task 6a): SPIDEr with FENSE's penalty for fluency errors."""

from __future__ import annotations

from pipeline.metrics.penalised import penalised
from pipeline.metrics.scores import ClipScores, Values


def spider_fl(
    spider: ClipScores,
    error_probability: Values,
    threshold: float = 0.9,
    penalty: float = 0.9,
) -> ClipScores:
    """SPIDEr, less nine tenths of it where the detector is sure of a fluency error."""
    return penalised(spider, error_probability, threshold, penalty)

"""ROUGE-L (Lin 2004), as pycocoevalcap computes it: β = 1.2, best precision and best recall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocoevalcap.rouge.rouge import Rouge

from pipeline.metrics.types import ClipScores, averaged


def rouge_l(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> ClipScores:
    """ROUGE-L of N tokenized captions against N × R."""
    scorer = Rouge()
    pairs = zip(candidates, references, strict=True)
    return averaged(np.array([scorer.calc_score([candidate], row) for candidate, row in pairs]))

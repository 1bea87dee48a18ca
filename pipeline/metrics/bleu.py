"""BLEU-1 to BLEU-4 (Papineni et al. 2002), as pycocoevalcap computes it: closest length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer

from pipeline.metrics.types import ClipScores

ORDERS = 4


def bleu(
    candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[ClipScores, ClipScores, ClipScores, ClipScores]:
    """BLEU-1 to BLEU-4; the corpus value is of the summed counts, not a mean over clips.

    Args:
        candidates: N tokenized captions.
        references: N × R tokenized captions.
    """
    scorer = BleuScorer(n=ORDERS)
    for candidate, row in zip(candidates, references, strict=True):
        scorer += (candidate, list(row))
    corpus, clips = scorer.compute_score(option="closest", verbose=0)
    one, two, three, four = map(ClipScores, map(float, corpus), map(np.array, clips))
    return one, two, three, four

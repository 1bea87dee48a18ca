"""BLEU-1 to BLEU-4 (Papineni et al. 2002), as pycocoevalcap computes it: closest length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer

from pipeline.metrics.types import ClipScores, Sums, Values

ORDERS = 4
SMALL, TINY = 1e-9, 1e-15  # pycocoevalcap's, against division by zero


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
    statistics = np.array([_statistics(each) for each in scorer.ctest], dtype=np.float64)
    made = (
        ClipScores(float(value), np.array(row), Sums(statistics, partial(bleu_of_sums, order)))
        for order, (value, row) in enumerate(zip(corpus, clips, strict=True), start=1)
    )
    one, two, three, four = made
    return one, two, three, four


def bleu_of_sums(order: int, sums: Values) -> Values:
    """(…) BLEU-``order`` of (…, 10) sums: matches and n-grams of four orders, and both lengths."""
    matches, grams = sums[..., :order], sums[..., ORDERS : ORDERS + order]
    precision = ((matches + TINY) / (grams + SMALL)).prod(axis=-1) ** (1 / order)
    ratio = (sums[..., -2] + TINY) / (sums[..., -1] + SMALL)
    return np.asarray(precision * np.exp(np.minimum(1 - 1 / ratio, 0)))


def _statistics(cooked: Mapping[str, Any]) -> list[float]:
    """(10,) of one clip, as :func:`bleu_of_sums` has them; of pycocoevalcap's counts."""
    length = cooked["testlen"]
    closest = min((abs(other - length), other) for other in cooked["reflen"])[1]
    return [*cooked["correct"], *cooked["guess"], length, closest]

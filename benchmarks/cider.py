"""CIDEr-D of one SCST batch against pycocoevalcap's: ``python -m benchmarks.cider``."""

from __future__ import annotations

import random

import numpy as np
from pycocoevalcap.cider.cider_scorer import CiderScorer

from benchmarks.timing import compare, print_table
from pipeline.metrics.cider_d import CiderD

CANDIDATES = 320  # 64 clips, four samples and a greedy caption each
ROWS = 320
WORDS = 1000
TARGET = 5.0


def caption(draw: random.Random) -> str:
    """Words as captions have them: a few are very common."""
    return " ".join(f"w{int(draw.paretovariate(0.6)) % WORDS}" for _ in range(draw.randint(6, 16)))


def main() -> None:
    draw = random.Random(1)
    references = [[caption(draw) for _ in range(5)] for _ in range(ROWS)]
    candidates = [caption(draw) for _ in range(CANDIDATES)]
    ours = CiderD(references)

    def theirs() -> list[float]:
        scorer = CiderScorer()
        for candidate, row in zip(candidates, references, strict=True):
            scorer += (candidate, row)
        return scorer.compute_score()[1]

    assert np.allclose(ours.score(candidates).clips, theirs(), atol=1e-9)
    name = f"CIDEr-D of {CANDIDATES} candidates × 5 references"
    print_table([compare(name, theirs, lambda: ours.score(candidates), TARGET)])


if __name__ == "__main__":
    main()

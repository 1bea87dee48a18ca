"""Whether a caption is as likely as a system's captions of held-out clips are.

A caption's probability a token is compared with theirs, of the test set that the pipeline has
captioned; below nearly all of them it is marked. It is a hint: of foreign sound a captioner is
mostly as sure as of its own (docs/results.md has the figures).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from earwitness.repository import Repository
from pipeline.config.params import Params
from pipeline.decoding.predict import per_token
from pipeline.text.tokenizer import Tokenizer

PERCENTILE = 5  # of the held-out captions, as unlikely as this or less
LEAST = 20  # of fewer captions, five percent are none


class Usual(NamedTuple):
    """What held-out captions are like."""

    lowest: float  # the log-probability a token that 95 of 100 of them are above
    tokenizer: Tokenizer

    def is_unsure(self, text: str, log_prob: float) -> bool:
        """Whether a caption is less likely than nearly all of them."""
        return per_token([text], [log_prob], self.tokenizer)[0] < self.lowest


def usual(
    system: str,
    seed: int,
    trained_on: Sequence[str],
    tokenizer: Tokenizer,
    params: Params,
    repository: Repository,
) -> Usual | None:
    """What a system's held-out captions are like; None where there are none, or too few.

    Args:
        seed: that its models were trained with.
        trained_on: datasets; a test set that is one of them comes first.
    """
    for dataset in sorted(params.test_sets, key=lambda name: name not in trained_on):
        texts, log_probs = _predicted(repository.data / f"predictions/{dataset}/{system}.csv", seed)
        if len(texts) >= LEAST:
            values = per_token(texts, log_probs, tokenizer)
            return Usual(float(np.percentile(values, PERCENTILE)), tokenizer)
    return None


def _predicted(path: Path, seed: int) -> tuple[list[str], list[float]]:
    """Captions and log-probabilities of a seed; none of a table that is not there or broken."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [
                (row["caption"], float(row["log_prob"]))
                for row in csv.DictReader(stream)
                if row.get("seed", str(seed)) == str(seed)  # older exports' have none
            ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return [], []
    return [text for text, _ in rows], [log_prob for _, log_prob in rows]

"""Whether a caption is as likely as a system's captions of held-out clips are.

A caption's probability a word is compared with theirs, of the test set that the pipeline captioned;
below nearly all of them it is marked. This tells poor captions of familiar sound. Of foreign sound
a captioner is often as sure as of its own (docs/results.md has the figures).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

import numpy as np

from earwitness.repository import Repository
from pipeline.config.params import Params

PERCENTILE = 5  # of the held-out captions, as unlikely as this or less
LEAST = 20  # of fewer captions, five percent are none


def is_unsure(text: str, log_prob: float, usual: float | None) -> bool | None:
    """Whether a caption is less likely than nearly all held-out ones; None: they are not known.

    Args:
        usual: of :func:`usual`.
    """
    return None if usual is None else per_word(text, log_prob) < usual


def per_word(text: str, log_prob: float) -> float:
    """The mean log-probability of a caption's words and its end."""
    return log_prob / (len(text.split()) + 1)


def usual(
    system: str, trained_on: Sequence[str], params: Params, repository: Repository
) -> float | None:
    """What :func:`per_word` is above for 95 of 100 held-out captions of a system.

    Args:
        trained_on: datasets; a test set that is one of them comes first.

    Returns:
        None where there are no predictions, or too few.
    """
    ranked = sorted(params.test_sets, key=lambda dataset: dataset not in trained_on)
    for dataset in ranked:
        values = [*_predicted(repository, dataset, system)]
        if len(values) >= LEAST:
            return float(np.percentile(values, PERCENTILE))
    return None


def _predicted(repository: Repository, dataset: str, system: str) -> Iterator[float]:
    """Of each row of the system's predictions; of a table that is not there or broken, none."""
    path = repository.data / "predictions" / dataset / f"{system}.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                yield per_word(row["caption"], float(row["log_prob"]))
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return

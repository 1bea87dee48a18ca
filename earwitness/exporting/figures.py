"""A system's scores on the test sets, with intervals: how much they would change on other clips.

An interval is the 95 % percentile bootstrap over the clips of the test set. It is given where the
score is a mean over clips or captions; BLEU of a corpus is none.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from earwitness.repository import Repository
from earwitness.seed_scores import seed_scores
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError
from pipeline.metrics.retrieval import CUTOFF

RESAMPLES = 2000
NEAR = 1e-4  # the scores are rounded
NAMES = {
    "cider_d": "CIDEr-D", "spice": "SPICE", "spider": "SPIDEr", "meteor": "METEOR",
    "rouge_l": "ROUGE-L", "bleu_4": "BLEU-4", "fense": "FENSE", "spider_fl": "SPIDEr-FL",
    "sbert_sim": "SBERT similarity",
    "t2a_r1": "text to sound, R@1", "t2a_r5": "text to sound, R@5",
    "t2a_r10": "text to sound, R@10", "t2a_map10": "text to sound, mAP@10",
    "a2t_r1": "sound to text, R@1", "a2t_r10": "sound to text, R@10",
    "a2t_map10": "sound to text, mAP@10",
}  # fmt: skip


class Figure(NamedTuple):
    """One score of one test set."""

    dataset: str
    clips: int
    metric: str  # as the files name it
    value: float
    low: float | None  # of the interval; None: none is known
    high: float | None

    @property
    def name(self) -> str:
        """In the field's words; what other weights than the field's measured says so."""
        base = _base(self.metric) or self.metric
        other = self.metric.removeprefix(base).removeprefix("_")
        return NAMES.get(base, base) + (f" by {other}" if other else "")


def caption_figures(repository: Repository, dataset: str, system: str, seed: int) -> list[Figure]:
    """Of a captioning system with one seed; empty where the test set was not scored."""
    corpus = seed_scores(repository.root, f"{dataset}/{system}", seed)
    clips = _columns(repository.data / f"scores/{dataset}/{system}.csv", seed)
    ones = np.ones(len(next(iter(clips.values()), ())))
    return _figures(dataset, corpus, {name: (own, ones) for name, own in clips.items()})


def search_figures(
    repository: Repository, dataset: str, system: str, seed: int, split: str
) -> list[Figure]:
    """Of a retrieval system with one seed; a clip's captions stay together when clips are drawn."""
    corpus = seed_scores(repository.root, f"retrieval/{dataset}/{system}", seed)
    table = _columns(repository.data / f"rankings/{dataset}/{system}.csv", seed)
    ranks = table.get("rank", np.zeros(0))
    counts = _captions(repository, dataset, split)
    if counts.sum() != len(ranks) or not len(ranks):
        return _figures(dataset, corpus, {})
    ends = np.cumsum(counts)
    values = {f"t2a_r{k}": (ranks <= k).astype(float) for k in (1, 5, 10)}
    values[f"t2a_map{CUTOFF}"] = np.where(ranks <= CUTOFF, 1 / ranks, 0.0)
    sums = {
        name: np.diff(np.concatenate([[0.0], np.cumsum(own)])[[0, *ends]])
        for name, own in values.items()
    }
    return _figures(dataset, corpus, {name: (own, counts) for name, own in sums.items()})


def interval(sums: NDArray[Any], counts: NDArray[Any]) -> tuple[float, float]:
    """(N,) sums over each clip's items and (N,) numbers of items → the 95 % interval of the mean
    over all items, clips drawn anew.
    """
    from scipy.stats import bootstrap

    def mean(own: NDArray[Any], items: NDArray[Any], axis: int = -1) -> NDArray[Any]:
        found: NDArray[Any] = own.sum(axis) / items.sum(axis)
        return found

    draws = np.random.default_rng(0)
    found = bootstrap(
        (sums, counts), mean, n_resamples=RESAMPLES, paired=True, vectorized=True,
        method="percentile", batch=100, random_state=draws,
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def _figures(
    dataset: str, corpus: dict[str, float], values: dict[str, tuple[NDArray[Any], NDArray[Any]]]
) -> list[Figure]:
    """Those that a card shows, in its order."""
    found = []
    for metric, value in corpus.items():
        low = high = None
        sums, counts = values.get(metric, (np.zeros(0), np.zeros(0)))
        if len(sums) > 1 and abs(sums.sum() / counts.sum() - value) < NEAR:
            low, high = interval(sums, counts)
        found.append(Figure(dataset, int(corpus.get("N", 0)), metric, value, low, high))
    order = [*NAMES]
    places = {own.metric: order.index(base) for own in found if (base := _base(own.metric))}
    shown = [own for own in found if own.metric in places]
    return sorted(shown, key=lambda own: places[own.metric])


def _base(metric: str) -> str | None:
    """The score that a metric is: itself, or SBERT similarity by other weights than the field's."""
    if metric in NAMES:
        return metric
    return "sbert_sim" if metric.startswith("sbert_sim_") else None


def _columns(path: Path, seed: int) -> dict[str, NDArray[np.float64]]:
    """The columns of numbers of a table's rows of one seed; none where there is none."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            every = csv.DictReader(stream)
            rows = [row for row in every if row.pop("seed", str(seed)) == str(seed)]
    except (OSError, ValueError, csv.Error):
        return {}
    found = {}
    for name in rows[0] if rows else ():
        try:
            found[name] = np.array([float(row[name]) for row in rows])
        except (ValueError, TypeError):
            continue
    return {name: own for name, own in found.items() if np.isfinite(own).all()}


def _captions(repository: Repository, dataset: str, split: str) -> NDArray[np.int64]:
    """(N,) captions of each clip of a split."""
    try:
        clips = Manifest.load(repository.data / f"corpora/{dataset}.json").split(split)
    except EarwitnessError:
        return np.zeros(0, np.int64)
    return np.array([len(clip.captions) for clip in clips])

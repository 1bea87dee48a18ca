"""BLEU, ROUGE-L, SPIDEr, the fluency penalty and diversity, by hand and by published scores."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.metrics.bleu import bleu
from pipeline.metrics.diversity import diversity
from pipeline.metrics.fense import fense
from pipeline.metrics.rouge_l import rouge_l
from pipeline.metrics.spider import spider
from pipeline.metrics.spider_fl import spider_fl
from pipeline.metrics.types import ClipScores, averaged


def test_bleu_by_hand() -> None:
    one, two, *_ = bleu(["a dog barks", "rain falls"], [["a dog barks loudly"], ["rain falls"]])
    assert one.clips[0] == pytest.approx(math.exp(1 - 4 / 3), abs=1e-6)  # brevity penalty alone
    assert two.clips[1] == pytest.approx(1.0, abs=1e-6)
    assert one.corpus == pytest.approx(math.exp(1 - 6 / 5), abs=1e-6)  # over all words together


def test_rouge_l_by_hand() -> None:
    scores = rouge_l(["a dog barks then stops"], [["the dog barks", "a cat"]])
    precision, recall = 2 / 5, 2 / 3  # "dog barks"; the best of each over references
    expected = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert scores.corpus == pytest.approx(expected)


def test_empty_caption_scores_zero() -> None:
    assert all(score.corpus == pytest.approx(0, abs=1e-6) for score in bleu([""], [["a dog"]]))
    assert rouge_l([""], [["a dog"]]).corpus == 0.0


def test_published_combinations(shared_data: Path) -> None:
    """From the published SBERT, SPIDEr and error probabilities the published FENSE, SPIDEr-FL."""
    folder = shared_data / "oracles"
    with (folder / "audiocaps_test_scored.csv").open() as stream:
        rows = [*csv.DictReader(stream)]
    published = json.loads((folder / "audiocaps_test_corpus.json").read_text())

    def column(name: str) -> ClipScores:
        return averaged(np.array([float(row[name]) for row in rows]))

    error = column("fer_error_prob").clips
    both = spider(column("cider_d"), column("spice"))
    np.testing.assert_allclose(both.clips, column("spider").clips, atol=1e-12)
    assert both.corpus == pytest.approx(published["spider"], abs=1e-9)
    for name, made in {
        "fense": fense(column("sbert_sim"), error),
        "spider_fl": spider_fl(column("spider"), error),
    }.items():
        np.testing.assert_allclose(made.clips, column(name).clips, atol=1e-9)
        assert made.corpus == pytest.approx(published[name], abs=1e-9)


def test_diversity_by_hand() -> None:
    found = diversity(["a dog and a dog and a dog", "a cat", ""])
    assert found.vocabulary == 4
    assert found.mean_length.corpus == pytest.approx(10 / 3)
    # "a dog", "dog and", "and a" twice more, in part: 3 distinct of 7
    np.testing.assert_allclose(found.repetition.clips, [1 - 3 / 7, 0, 0])

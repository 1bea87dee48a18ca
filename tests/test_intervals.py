"""Intervals against scipy's bootstrap, and how often they have the truth in them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_evaluate import NO_JAVA
from test_resampling import made
from typer.testing import CliRunner

from earwitness import scoring
from earwitness.cli import app
from pipeline.config.evaluation import EvaluationConfig
from pipeline.metrics.intervals import (
    Interval,
    SeedScores,
    as_json,
    intervals,
    limits_of,
    seed_part,
)
from pipeline.metrics.over_seeds import evaluate_seeds
from pipeline.metrics.resampling import Measured, replicates
from pipeline.metrics.types import ScoredSet, Values, mean_sums

RESAMPLES = 2000


def system(*seeds: Values, metric: str = "cider_d") -> dict[int, SeedScores]:
    """One metric, a mean of clips."""
    return {
        seed: SeedScores(
            {metric: float(np.nanmean(values)), "N": len(values), "vocabulary": 30 + seed},
            Measured({metric: mean_sums(values)}),
        )
        for seed, values in enumerate(seeds, start=1)
    }


def one(values: Values, metric: str = "cider_d") -> Interval:
    return intervals({"own": system(values, metric=metric)}, RESAMPLES)["own"][metric]


def test_the_limits_are_scipys_percentiles() -> None:
    """Stretched by Student's t, 1.5 % at 70 clips; both are draws of 20,000."""
    values = np.random.default_rng(1).gamma(0.7, 1.0, 70)
    drawn = replicates({"own": system(values)[1].measured}, 20_000)["own"]["cider_d"]
    found = limits_of(values.mean(), drawn, len(values), values[:1])
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=2
    ).confidence_interval
    factor = stats.t.ppf(0.975, 69) / stats.norm.ppf(0.975) * np.sqrt(70 / 69)
    expected = [values.mean() + (each - values.mean()) * factor for each in theirs]
    assert found == pytest.approx(expected, abs=0.006)  # the interval is 0.42 wide
    assert np.std(drawn) == pytest.approx(values.std() / np.sqrt(70), rel=0.02)


@pytest.mark.parametrize(
    ("shape", "clips"), [("skewed", 100), ("even", 30), ("even", 10), ("share", 100)]
)
def test_nineteen_in_twenty_intervals_have_the_truth_in_them(shape: str, clips: int) -> None:
    draw = np.random.default_rng(clips)
    truth = {"skewed": 0.7, "even": 0.5, "share": 0.3}[shape]
    weights = draw.multinomial(clips, np.full(clips, 1 / clips), size=RESAMPLES) / clips
    inside = 0
    for _ in range(2000):
        values = {
            "skewed": lambda: draw.gamma(0.7, 1.0, clips),
            "even": lambda: draw.beta(4, 4, clips),
            "share": lambda: (draw.random(clips) < 0.3).astype(float),
        }[shape]()
        low, high = limits_of(values.mean(), weights @ values, clips, values[:1]) or (9, 9)
        inside += low <= truth <= high
    assert 0.925 <= inside / 2000 <= 0.975, inside / 2000


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_over_seeds_have_the_truth_in_them(seeds: int) -> None:
    """Trainings differ by more than clips do: percentiles of drawn seeds would miss one in four."""
    draw = np.random.default_rng(seeds)
    inside, clips = 0, 40
    weights = draw.multinomial(clips, np.full(clips, 1 / clips), size=RESAMPLES) / clips
    for _ in range(500):
        easy = draw.gamma(0.7, 1.0, clips)
        values = easy + draw.normal(0, 0.4, (seeds, 1)) + draw.normal(0, 0.3, (seeds, clips))
        drawn = weights @ values.mean(axis=0)
        low, high = limits_of(values.mean(), drawn, clips, values.mean(axis=1)) or (9, 9)
        inside += low <= 0.7 <= high
    assert 0.93 <= inside / 500 <= 0.99, inside / 500


def test_a_seeds_part_is_students_t() -> None:
    """So wide as the interval of a mean of three values in a book."""
    values = np.array([0.8, 0.9, 1.0])
    part = seed_part(values, RESAMPLES)
    low, high = stats.t.interval(0.95, 2, scale=values.std(ddof=1) / np.sqrt(3))
    assert np.quantile(part, [0.025, 0.975]) == pytest.approx([low, high], rel=0.02)
    assert not seed_part(values[:1], RESAMPLES).any()


def test_what_stands_in_the_file() -> None:
    draw = np.random.default_rng(4)
    first, second = draw.random(50), draw.random(50) + 0.1
    found = intervals({"own": system(first, second)}, RESAMPLES)["own"]
    own = as_json(found, 50, [1, 2], RESAMPLES)
    again = as_json(intervals({"own": system(first, second)}, RESAMPLES)["own"], 50, [1, 2], 2000)
    assert own == again, "the same scores have the same intervals"
    values = own["metrics"]["cider_d"]
    assert values["by_seed"] == {"1": round(first.mean(), 6), "2": round(second.mean(), 6)}
    means = [first.mean(), second.mean()]
    assert values["mean"] == round(np.mean(means), 6)
    assert values["sd"] == round(float(np.std(means, ddof=1)), 6)
    assert values["low"] < min(means) and values["high"] > max(means)
    assert own["metrics"]["vocabulary"] == {
        "mean": 31.5, "low": None, "high": None, "sd": round(0.5**0.5, 6),
        "by_seed": {"1": 31, "2": 32},
    }  # fmt: skip
    assert set(own["metrics"]) == {"cider_d", "vocabulary"}, "N is no metric"
    alone = as_json(intervals({"own": system(first)}, RESAMPLES)["own"], 50, [1], RESAMPLES)
    assert alone["metrics"]["cider_d"]["sd"] is None


def test_where_there_is_no_interval_there_is_none() -> None:
    for values in ([0.4], [0.5, 0.5, 0.5], [0.4, np.nan, np.nan]):
        found = one(np.array(values))
        assert (found.low, found.high) == (None, None)
        assert found.mean == pytest.approx(np.nanmean(values))
    off = intervals({"own": system(np.arange(9.0))}, 0)["own"]["cider_d"]
    assert off.low is None and off.mean == 4


def test_a_share_stays_one() -> None:
    found = one(np.array([1.0] * 9 + [0.0]), metric="t2a_r10")
    assert found.high == 1 and 0 < found.low < 0.9  # type: ignore[operator]


def test_clips_without_a_value_are_not_counted() -> None:
    """The mean of those that have one is resampled."""
    draw = np.random.default_rng(6)
    values = draw.random(200)
    values[::2] = np.nan
    found, alone = one(values), one(values[1::2])
    assert found.mean == pytest.approx(alone.mean)
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.1)  # type: ignore[operator]


def test_a_metric_that_one_seed_lacks_is_left_out() -> None:
    both = system(np.arange(9.0), np.arange(9.0) + 1)
    del both[2].corpus["cider_d"]  # type: ignore[attr-defined]
    assert set(intervals({"own": both}, 10)["own"]) == {"vocabulary"}


def test_scores_of_anyones_captions_have_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `evaluate` writes them for the same captions."""
    monkeypatch.setattr(scoring, "find_tools", lambda *_: NO_JAVA)
    chosen = made(1)
    rows = [["candidate", "caption_1", "caption_2"]]
    rows += [[said, row[0], row[-1]] for said, row in zip(*chosen, strict=True)]
    rows[6][0], rows[4][1] = "a dog", "a cat"
    with (tmp_path / "captions.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    call = ["score", str(tmp_path / "captions.csv"), "--intervals"]
    shown = CliRunner().invoke(app, call)
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    sets = {"own": {1: ScoredSet([row[0] for row in rows[1:]], [row[1:] for row in rows[1:]])}}
    settings = EvaluationConfig(sbert=None, spice=False)
    systems, _ = evaluate_seeds(sets, settings, NO_JAVA)
    expected = intervals(systems, 2000)["own"]
    assert isinstance(found["N"], int) and isinstance(found["vocabulary"], int)
    for name in ("cider_d", "bleu_4", "rouge_l", "mean_length"):
        own = expected[name]
        assert found[name] == {"value": own.mean, "low": own.low, "high": own.high}
    plain = CliRunner().invoke(app, call[:2])
    values = json.loads(plain.stdout)
    assert values["cider_d"] == found["cider_d"]["value"]

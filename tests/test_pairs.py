"""Differences of systems against scipy, and against all exchanges looked at one by one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from scipy import stats
from test_intervals import system
from test_resampling import made, theirs

from pipeline.metrics.bleu import bleu
from pipeline.metrics.intervals import SeedScores
from pipeline.metrics.pairs import Difference, compare, holm
from pipeline.metrics.resampling import Measured
from pipeline.metrics.types import ScoredSet, Sums, Values, mean_sums


def of(a: list[Values], b: list[Values], resamples: int = 200, swaps: int = 2000) -> Difference:
    return compare({"a": system(*a), "b": system(*b)}, resamples, swaps)["a", "b"]["cider_d"]


def test_the_interval_is_scipys_paired_bootstrap() -> None:
    draw = np.random.default_rng(1)
    a = draw.gamma(0.7, 1.0, 80)
    b = a + draw.normal(0.05, 0.4, 80)
    found = of([a], [b], 20_000)
    theirs = stats.bootstrap(
        (a, b), lambda x, y, axis: (x - y).mean(axis=axis), paired=True, n_resamples=20_000,
        method="percentile", random_state=2,
    ).confidence_interval  # fmt: skip
    centre = (a - b).mean()
    factor = stats.t.ppf(0.975, 79) / stats.norm.ppf(0.975) * np.sqrt(80 / 79)
    assert found.difference == pytest.approx(centre)
    expected = [centre + (each - centre) * factor for each in theirs]
    assert (found.low, found.high) == pytest.approx(expected, abs=0.004)


@pytest.mark.parametrize("shift", [0.0, 0.3, 2.0])
def test_few_clips_are_exchanged_in_all_ways(shift: float) -> None:
    draw = np.random.default_rng(int(10 * shift))
    a, b = draw.random(9), draw.random(9) + shift
    expected = stats.permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples",
        n_resamples=np.inf,
    )  # fmt: skip
    signs = np.array([*product([1, -1], repeat=9)])
    written_out = np.mean(np.abs(signs @ (a - b)) >= np.abs((a - b).sum()) - 1e-12)
    assert of([a], [b]).p == pytest.approx(written_out) == pytest.approx(expected.pvalue)


def test_many_clips_are_exchanged_at_random() -> None:
    draw = np.random.default_rng(3)
    a = draw.gamma(0.7, 1.0, 300)
    b = a + draw.normal(0.03, 0.3, 300)
    theirs = stats.permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples",
        n_resamples=20_000, vectorized=True, batch=2000, random_state=1,
    )  # fmt: skip
    assert of([a], [b], swaps=20_000).p == pytest.approx(theirs.pvalue, abs=0.01)
    assert of([a], [a + 1], swaps=999).p == 1 / 1000, "never 0"


def test_bleu_is_of_exchanged_captions() -> None:
    """Eight clips, all 256 exchanges, each scored by pycocoevalcap."""
    one, other = made(1), made(2)
    references = one.references[:8]
    sets = [ScoredSet(each.candidates[:8], references) for each in (one, other)]
    systems = {}
    for name, chosen in zip("ab", sets, strict=True):
        four = bleu(*chosen)[3]
        assert isinstance(four.sums, Sums)
        systems[name] = {1: SeedScores({"bleu_4": four.corpus}, Measured({"bleu_4": four.sums}))}
    found = compare(systems, 50)["a", "b"]["bleu_4"]
    captions = [*zip(sets[0].candidates, sets[1].candidates, strict=True)]
    differences = []
    for swaps in product([0, 1], repeat=8):
        rows = [
            [pair[swap ^ side] for pair, swap in zip(captions, swaps, strict=True)]
            for side in (0, 1)
        ]
        mine, yours = (theirs(Bleu(4), ScoredSet(row, references))[3] for row in rows)  # type: ignore[index]
        differences.append(mine - yours)
    assert found.difference == pytest.approx(differences[0])
    as_large = np.abs(differences) >= abs(differences[0]) - 1e-12
    assert found.p == pytest.approx(as_large.mean())


def test_systems_that_say_the_same_do_not_differ() -> None:
    values = np.random.default_rng(4).random(40)
    found = of([values], [values.copy()])
    assert (found.difference, found.p, found.low, found.high) == (0, 1, None, None)
    few = values.copy()
    few[:3] += 1  # of the 40 clips three differ: 1 of 4 exchanges is as large, either way
    assert of([few], [values]).p == pytest.approx(2 / 8)


@pytest.mark.parametrize(("seeds", "training"), [(1, 0.0), (3, 0.3), (5, 0.3), (3, 0.0)], ids=str)
def test_false_alarms_are_five_in_a_hundred(seeds: int, training: float) -> None:
    """Systems that do not differ, on clips that are easy or hard for both.

    ``training``: how far two trainings of one system lie apart, where clips alone would find a
    difference in most pairs. With seeds the test is careful, and never above.
    """
    draw = np.random.default_rng(seeds)
    alarms, outside, pairs = 0, 0, 600
    for _ in range(pairs):
        clip = draw.gamma(0.7, 1.0, 60)

        def trained(clip: Values = clip) -> list[Values]:
            own = clip + draw.normal(0, 0.3, 60)  # what this system finds hard, every time
            return [own + draw.normal(0, 0.4, 60) + training * draw.normal() for _ in range(seeds)]

        found = of(trained(), trained(), resamples=300, swaps=399)
        alarms += found.p < 0.05
        outside += not (found.low or 0) <= 0 <= (found.high or 0)
    highest = 0.07
    lowest = 0.03 if seeds == 1 or (training and seeds == 3) else 0.0
    assert lowest <= alarms / pairs <= highest, alarms / pairs
    assert lowest <= outside / pairs <= highest, outside / pairs


def test_what_is_equal_at_six_decimals_does_not_differ() -> None:
    """BLEU-4 of captions that share no four words is 1e-9 or less, and never quite 0."""
    values = np.full(40, 1e-9)
    assert of([values], [values / 2]).p == 1
    assert of([values], [values + 1e-5]).p < 0.001


def test_an_interval_goes_no_further_than_values_can() -> None:
    """Two trainings, which say little; shares lie at most 1 apart."""
    draw = np.random.default_rng(11)
    a, b = ([draw.random(30) * each for each in (0.2, 1.0)] for _ in range(2))
    systems = {
        name: system(*values, metric="rouge_l")
        for name, values in (("a", [a[0], a[1]]), ("b", [b[1], b[0]]))
    }
    found = compare(systems, 200)["a", "b"]["rouge_l"]
    assert (found.low, found.high) == (-1, 1)


def test_a_real_difference_is_found() -> None:
    draw = np.random.default_rng(8)
    clip = draw.gamma(0.7, 1.0, 100)
    a, b = ([clip + draw.normal(up, 0.3, 100) for _ in range(3)] for up in (0.3, 0.0))
    found = of(a, b)
    assert found.p < 0.01 and found.low > 0  # type: ignore[operator]
    assert found.a - found.b == pytest.approx(found.difference)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1, 1] and holm([]) == [] and holm([0.02]) == [0.02]


def test_pairs_are_corrected_within_a_metric() -> None:
    draw = np.random.default_rng(9)
    clip = draw.random(50)
    systems = {
        name: system(clip + draw.normal(up, 0.3, 50))
        for name, up in (("a", 0.0), ("b", 0.1), ("c", 0.2))
    }
    found = compare(systems, 50)
    assert [*found] == [("a", "b"), ("a", "c"), ("b", "c")]
    p = [each["cider_d"].p for each in found.values()]
    assert [each["cider_d"].p_holm for each in found.values()] == holm(p)
    assert all("vocabulary" not in each for each in found.values()), "it has no statistics"


def test_metrics_that_one_lacks_are_left_out() -> None:
    values = np.random.default_rng(10).random(30)
    both = Measured({"cider_d": mean_sums(values), "spice": mean_sums(values / 2)})
    a = {1: SeedScores({"cider_d": values.mean(), "spice": values.mean() / 2}, both)}
    assert [*compare({"a": a, "b": system(values + 1)}, 20)["a", "b"]] == ["cider_d"]

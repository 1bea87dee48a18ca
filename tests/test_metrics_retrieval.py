"""Retrieval scores against a slow, obvious reference; chance against simulation."""

from __future__ import annotations

import math
from statistics import fmean, median

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import EarwitnessError
from pipeline.metrics import retrieval
from pipeline.metrics.retrieval import (
    Embeddings,
    Ties,
    chance_scores,
    ensemble_ranks,
    matrix_ranks,
    ranking_scores,
    scores,
)


def reference(
    similarity: list[list[float]], relevant: list[set[int]], ties: Ties
) -> dict[str, float]:
    """One direction, query by query: sort, an irrelevant or a later item first among equals."""
    firsts, averages, shares = [], [], []
    for row, right in zip(similarity, relevant, strict=True):
        if not right:
            continue
        order = sorted(range(len(row)), key=lambda i: (-row[i], i in right))
        if ties == "listed":  # DCASE 2022's measure(), with a sort that is stable
            order = np.argsort(row, kind="stable")[::-1].tolist()
        hits = [rank for rank, item in enumerate(order, start=1) if item in right]
        firsts.append(hits[0])
        precisions = [(n / rank) for n, rank in enumerate(hits, start=1) if rank <= 10]
        averages.append(sum(precisions) / min(len(right), 10))
        shares.append([sum(rank <= k for rank in hits) / len(right) for k in (1, 5, 10)])
    recalls = {f"r{k}": fmean(first <= k for first in firsts) for k in (1, 5, 10)}
    recalls |= {f"recall{k}": fmean(s[at] for s in shares) for at, k in enumerate((1, 5, 10))}
    return recalls | {"map10": fmean(averages), "median_rank": median(firsts)}


def both_ways(similarity: Tensor, clip_of: Tensor, ties: Ties = "last") -> dict[str, float]:
    owner = clip_of.tolist()
    own = [{clip} for clip in owner]
    captions = [
        {i for i, clip in enumerate(owner) if clip == column}
        for column in range(similarity.shape[1])
    ]
    t2a = reference(similarity.tolist(), own, ties)
    a2t = reference(similarity.T.tolist(), captions, ties)
    for k in (1, 5, 10):  # one relevant clip: nothing new
        assert t2a.pop(f"recall{k}") == t2a[f"r{k}"]
    return {f"t2a_{k}": v for k, v in t2a.items()} | {f"a2t_{k}": v for k, v in a2t.items()}


def drawn(captions: int, clips: int, levels: int, seed: int) -> tuple[Tensor, Tensor]:
    """Similarities of few levels, so that ties abound; some clips have many captions, some none."""
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.randint(levels, (captions, clips), generator=generator) / levels
    owner = (torch.rand(captions, generator=generator) ** 2 * clips).long()
    return similarity, owner


@pytest.mark.parametrize("levels", [1, 3, 40, 1_000_000])
@pytest.mark.parametrize("block", [1, 64, 1 << 22])
@pytest.mark.parametrize("ties", ["last", "listed"])
def test_scores_are_those_of_the_obvious_way(
    levels: int, block: int, ties: Ties, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "BLOCK", block)
    for seed, (captions, clips) in enumerate([(60, 23), (5, 40), (80, 3), (1, 1)]):
        similarity, owner = drawn(captions, clips, levels, seed)
        similarity[torch.arange(0, captions, 2), owner[::2]] += 0.5  # some are right
        before = similarity.clone()
        found = ranking_scores(similarity, owner, ties)
        assert found == pytest.approx(both_ways(similarity, owner, ties), abs=1e-12)
        assert torch.equal(similarity, before)


def test_average_precision_is_scikit_learns() -> None:
    from sklearn.metrics import average_precision_score

    similarity, owner = drawn(10, 4, 1_000_000, 3)  # ten captions: nothing lies past the cut
    owner = torch.arange(10) % 4
    per_clip = [
        average_precision_score((owner == clip).numpy(), similarity[:, clip].numpy())
        for clip in range(4)
    ]
    assert ranking_scores(similarity, owner)["a2t_map10"] == pytest.approx(fmean(per_clip))


def test_ties_do_not_flatter() -> None:
    """An embedding that collapsed to one point ranks every right item last."""
    owner = torch.arange(20) % 4
    ranks = matrix_ranks(torch.ones(20, 4), owner)
    assert ranks.clip.tolist() == [4] * 20
    assert sorted(ranks.caption[owner == 0].tolist()) == [16, 17, 18, 19, 20]


def test_ties_as_the_official_code_lists_them() -> None:
    """Of equally similar clips the last is ranked first, as `numpy.argsort(row)[::-1]` has it."""
    owner = torch.arange(8) % 4
    ranks = matrix_ranks(torch.ones(8, 4), owner, "listed")
    assert ranks.clip.tolist() == [4, 3, 2, 1] * 2
    assert ranks.caption.tolist() == [8, 7, 6, 5, 4, 3, 2, 1]
    found = ranking_scores(torch.ones(8, 4), owner, "listed")
    assert found["a2t_r5"] == 1 and found["a2t_recall5"] == (1 + 1 / 2 * 3) / 4


def whole_numbers(*shape: int, seed: int) -> Tensor:
    """Embeddings whose products are exact in float32, whatever the order of the sums."""
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


def test_blocks_and_ensembles_equal_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = torch.arange(70) % 13
    members = [
        Embeddings(whole_numbers(70, width, seed=width), whole_numbers(13, width, seed=width + 1))
        for width in (5, 16)
    ]
    products = [member.captions @ member.clips.T for member in members]
    near = Embeddings(*members[0][:2], distance=True)
    apart = torch.tensor([[-math.dist(a, b) for b in near.clips.tolist()]
                          for a in near.captions.tolist()])  # fmt: skip
    monkeypatch.setattr(retrieval, "BLOCK", 97)
    monkeypatch.setattr(retrieval, "WHOLE", 0)
    for chosen, whole in (
        (members[:1], products[0]),
        (members, (products[0] + products[1]) / 2),
        ([near], apart),
        ([members[1], near], (products[1] + apart) / 2),
    ):
        expected = matrix_ranks(whole, owner)
        found = ensemble_ranks(chosen, owner)
        assert torch.equal(found.clip, expected.clip)
        assert torch.equal(found.caption, expected.caption)


def test_broken_similarity_is_refused() -> None:
    similarity, owner = drawn(12, 5, 50, 1)
    similarity[3, 2] = torch.nan
    with pytest.raises(EarwitnessError, match="not a finite number"):
        ranking_scores(similarity, owner)
    with pytest.raises(ValueError, match="one of 4"):
        ranking_scores(torch.ones(12, 4), owner.fill_(4))


@pytest.mark.parametrize(("captions", "clips"), [(40, 12), (9, 7), (200, 40), (3, 1)])
def test_chance_is_the_mean_of_random_rankings(captions: int, clips: int) -> None:
    draw = torch.Generator().manual_seed(captions)
    owner = (torch.rand(captions, generator=draw) ** 1.5 * clips).long()
    expected = chance_scores(owner, clips)
    found = [
        scores(matrix_ranks(torch.rand(captions, clips, generator=draw), owner), owner)
        for _ in range(800)
    ]
    for name, value in expected.items():
        if "median" in name:
            continue
        values = [row[name] for row in found]
        error = np.std(values) / np.sqrt(len(values))
        assert abs(fmean(values) - value) < 4.5 * error + 1e-9, name


def test_chance_median_of_one_relevant_item_is_the_middle() -> None:
    for clips, middle in ((1, 1.0), (2, 1.5), (9, 5.0), (10, 5.5)):
        assert chance_scores(torch.arange(clips), clips)["t2a_median_rank"] == middle


def test_chance_median_of_several_relevant_items() -> None:
    """Of 5 relevant among 25, drawn 20,000 times."""
    owner = torch.arange(25) % 5
    draw = np.random.default_rng(1)
    firsts = np.argsort(draw.random((20_000, 25)), axis=1)[:, :5].min(axis=1) + 1
    assert chance_scores(owner, 5)["a2t_median_rank"] == np.median(firsts)

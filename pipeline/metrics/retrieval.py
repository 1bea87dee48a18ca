"""Ranks and scores of retrieval both ways: text → audio (t2a) and audio → text (a2t).

In text → audio a caption has one relevant clip; in audio → text all captions of a clip are
relevant. M captions, N clips, D width.

Equally similar items are ranked in one of two ways:

- ``last``, the default: ties never improve a score; irrelevant items are ranked first.
- ``listed``, as the official code does (``numpy.argsort(similarity)[::-1]`` in DCASE's baseline of
  2022 and in Mei et al. 2022): the item later in the list is ranked first, relevant or not. (Their
  sort is not stable, so that its order within long ties may be another.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import EarwitnessError

CUTOFF = 10  # of mAP@10
RECALLS = (1, 5, 10)
BLOCK = 1 << 22  # similarities that are compared at once: 16 MB
WHOLE = 1 << 25  # similarities that are held at once, from one product: 128 MB

Block = Callable[[slice], Tensor]
Ties = Literal["last", "listed"]  # see the module


class Embeddings(NamedTuple):
    """Of one retriever: (M, D) captions and (N, D) clips.

    Similarity is the dot product (of unit rows the cosine), or minus the Euclidean distance.
    """

    captions: Tensor
    clips: Tensor
    distance: bool = False

    def similarity(self, rows: slice) -> Tensor:
        """(m, N) of the chosen captions with every clip."""
        if self.distance:  # by squares, rounding would make close distances equal
            exact = "donot_use_mm_for_euclid_dist"
            return -torch.cdist(self.captions[rows], self.clips, compute_mode=exact)
        return self.captions[rows] @ self.clips.T

    def paired(self) -> Tensor:
        """(N,) of each caption with the clip of its own row; M = N."""
        if self.distance:
            return -torch.linalg.vector_norm(self.captions - self.clips, dim=1)
        return (self.captions * self.clips).sum(1)

    def turned(self) -> Embeddings:
        """With clips and captions exchanged."""
        return Embeddings(self.clips, self.captions, self.distance)


class Ranks(NamedTuple):
    """Counted from 1.

    Attributes:
        clip: (M,) int64, of each caption's clip among all clips.
        caption: (M,) int64, of each caption among all captions, in its clip's ranking.
    """

    clip: Tensor
    caption: Tensor


def ranking_scores(similarity: Tensor, clip_of: Tensor, ties: Ties = "last") -> dict[str, float]:
    """Scores of a similarity matrix: see :func:`scores`.

    Args:
        similarity: (M, N).
        clip_of: (M,) int64, each caption's clip.
        ties: how equally similar items are ranked; see the module.

    Raises:
        EarwitnessError: a similarity is not finite.
    """
    return scores(matrix_ranks(similarity, clip_of, ties), clip_of)


def matrix_ranks(similarity: Tensor, clip_of: Tensor, ties: Ties = "last") -> Ranks:
    """Ranks by a similarity matrix, (M, N); ``clip_of`` (M,) int64."""
    captions, clips = similarity.shape
    return _ranks(
        lambda rows: similarity[rows],
        lambda columns: similarity[:, columns].T.clone(memory_format=torch.contiguous_format),
        clip_of,
        (captions, clips),
        ties,
    )


def ensemble_ranks(members: Sequence[Embeddings], clip_of: Tensor, ties: Ties = "last") -> Ranks:
    """Ranks by the mean of the members' similarities (SJTU 3).

    These are computed at once, or where that is too large in blocks, for each direction again.

    Args:
        members: embeddings of one or several retrievers, of the same captions and clips.
        clip_of: (M,) int64, each caption's clip.
        ties: how equally similar items are ranked; see the module.
    """
    captions, clips = len(members[0].captions), len(members[0].clips)
    if captions * clips <= WHOLE:
        return matrix_ranks(mean_similarity(members, slice(None)), clip_of, ties)
    return _ranks(
        lambda rows: mean_similarity(members, rows),
        lambda columns: mean_similarity([member.turned() for member in members], columns),
        clip_of,
        (captions, clips),
        ties,
    )


def mean_similarity(members: Sequence[Embeddings], rows: slice) -> Tensor:
    """(m, N) the mean over members of the chosen captions' similarity with every clip.

    In the embeddings' precision, also under autocast: bfloat16 would make ties.
    """
    with torch.autocast(members[0].clips.device.type, enabled=False):
        total = members[0].similarity(rows)
        for member in members[1:]:
            if member.distance:
                total += member.similarity(rows)
            else:
                total.addmm_(member.captions[rows], member.clips.T)
        return total.div_(len(members))


def scores(ranks: Ranks, clip_of: Tensor) -> dict[str, float]:
    """R@1, R@5, R@10, mAP@10 and median rank both ways, as fractions of 1.

    R@k (``a2t_r10``): the share of queries with a relevant item among the first k, as in Mei et al.
    2022 and LAION's CLAP. Of a clip, which has several captions, also the share of them that are
    among the first k (``a2t_recall10``), as in the code of DCASE 2022's baseline; of a caption,
    which has one clip, both are the same. mAP@10: the mean of
    AP@10 = Σ over relevant items at rank r ≤ 10 of (relevant ones up to r) / r, over
    min(relevant, 10), as torchmetrics and DCASE have it. The median is of the first relevant
    item's rank. Clips without captions are ranked, but are not queries.
    """
    clip, caption, owner = (value.cpu().numpy() for value in (ranks.clip, ranks.caption, clip_of))
    result = _direction("t2a", clip, np.where(clip <= CUTOFF, 1 / clip, 0.0))
    order = np.lexsort((caption, owner))
    _, begins, counts = np.unique(owner[order], return_index=True, return_counts=True)
    ranked = caption[order]
    nth = np.arange(len(order)) - np.repeat(begins, counts) + 1  # of its clip's captions
    precision = np.where(ranked <= CUTOFF, nth / ranked, 0.0)
    average = np.add.reduceat(precision, begins) / np.minimum(counts, CUTOFF)
    result |= _direction("a2t", ranked[begins], average)
    shares = {k: np.add.reduceat((ranked <= k) * 1.0, begins) / counts for k in RECALLS}
    return result | {f"a2t_recall{k}": float(share.mean()) for k, share in shares.items()}


def _direction(
    name: str, first: NDArray[np.int64], average: NDArray[np.float64]
) -> dict[str, float]:
    """``first`` (Q,) ranks of the first relevant item; ``average`` (Q,) AP@10."""
    result = {f"{name}_r{k}": float((first <= k).mean()) for k in RECALLS}
    median = float(np.median(first))
    return result | {f"{name}_map{CUTOFF}": float(average.mean()), f"{name}_median_rank": median}


def _ranks(
    rows: Block, columns: Block, clip_of: Tensor, shape: tuple[int, int], ties: Ties
) -> Ranks:
    """``rows`` gives (m, N) of some captions; ``columns`` (n, M) of some clips, overwritten."""
    captions, clips = shape
    if clip_of.shape != (captions,) or captions == 0:
        raise ValueError(f"{tuple(clip_of.shape)} clips of {captions} captions")
    if int(clip_of.min()) < 0 or int(clip_of.max()) >= clips:
        raise ValueError(f"a caption's clip is not one of {clips}")
    clip = torch.empty_like(clip_of)
    for part in blocks(captions, clips):
        block = finite(rows(part))
        relevant = block.gather(1, clip_of[part, None])
        ahead = _ahead(block, relevant, clip_of[part, None], ties)
        clip[part] = ahead if ties == "last" else ahead + 1  # `last` counts the item itself
    return Ranks(clip, _caption_ranks(columns, clip_of, clips, ties))


def _ahead(block: Tensor, relevant: Tensor, place: Tensor, ties: Ties) -> Tensor:
    """(m,) how many items of ``block`` (m, n) come before the relevant one.

    With ``last`` it counts itself where it is in the block.

    Args:
        relevant: (m, 1) its similarity. place: (m, 1) its index among the n items.
    """
    if ties == "last":
        return torch.count_nonzero(block >= relevant, dim=1)
    later = torch.arange(block.shape[1], device=block.device) > place
    return torch.count_nonzero((block > relevant) | ((block == relevant) & later), dim=1)


def _caption_ranks(columns: Block, clip_of: Tensor, clips: int, ties: Ties) -> Tensor:
    """(M,) rank of each caption in its clip's ranking; ``columns`` gives (n, M)."""
    captions = len(clip_of)
    order = torch.argsort(clip_of, stable=True)
    owner = clip_of[order].contiguous()
    before = torch.empty_like(owner)  # irrelevant captions that come first
    own = torch.empty(captions, device=owner.device)  # similarities
    for part in blocks(clips, captions):
        ends = torch.searchsorted(owner, torch.tensor([part.start, part.stop]).to(owner))
        begin, end = ends.tolist()
        block = finite(columns(part))
        row, column = owner[begin:end] - part.start, order[begin:end]
        relevant = block[row, column]
        block[row, column] = -torch.inf
        own[begin:end] = relevant
        for chunk in blocks(end - begin, captions):
            before[begin:end][chunk] = _ahead(
                block[row[chunk]], relevant[chunk, None], column[chunk, None], ties
            )
    nearest = torch.argsort(own, descending=True, stable=True)
    place = (owner * (captions + 1) + before)[nearest]
    sorted_ = order[nearest[torch.argsort(place, stable=True)]]
    return _ranked(sorted_, clip_of, before[torch.argsort(order)])


def _ranked(order: Tensor, clip_of: Tensor, before: Tensor) -> Tensor:
    """(M,) ranks: the n-th best of a clip's captions comes after n − 1 relevant ones."""
    owner = clip_of[order].contiguous()
    place = torch.arange(len(order), device=order.device)
    nth = place - torch.searchsorted(owner, owner) + 1
    ranks = torch.empty_like(order)
    ranks[order] = before[order] + nth
    return ranks


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of ``rows`` rows of ``width`` values; a slice has at most BLOCK values, or one row."""
    step = max(BLOCK // max(width, 1), 1)
    return (slice(at, min(at + step, rows)) for at in range(0, rows, step))


def finite(block: Tensor) -> Tensor:
    """The same similarities; one that is not a number is an error."""
    if not bool(torch.isfinite(block).all()):
        raise EarwitnessError(
            "retrieval: a similarity is not a finite number; an embedding is broken, so train the "
            "retriever again, with a lower learning rate"
        )
    return block


def chance_scores(clip_of: Tensor, clips: int) -> dict[str, float]:
    """The exact expectation of :func:`scores` for a uniformly random ranking.

    The median rank is the median of the distribution of the first relevant item's rank.

    Args:
        clip_of: (M,) int64, each caption's clip.
        clips: N.
    """
    relevant = np.unique(clip_of.cpu().numpy(), return_counts=True)[1]
    one = np.ones(1, dtype=np.int64)
    shares = {f"a2t_recall{k}": min(k / len(clip_of), 1.0) for k in RECALLS}
    return _chance("t2a", one, clips) | _chance("a2t", relevant, len(clip_of)) | shares


def _chance(name: str, relevant: NDArray[np.int64], items: int) -> dict[str, float]:
    """``relevant`` (Q,) items of each query among ``items``."""
    counts, queries = np.unique(relevant, return_counts=True)
    weight = queries / queries.sum()
    place = np.arange(items)
    found = np.zeros(items)  # P(a relevant item is among the first 1, 2, …)
    average = 0.0
    rank = place[:CUTOFF] + 1
    for share, count in zip(weight.tolist(), counts.tolist(), strict=True):
        found += share * (1 - np.cumprod(np.maximum(items - count - place, 0) / (items - place)))
        before = (rank - 1) * (count - 1) / max(items - 1, 1)  # expected relevant items before it
        average += share * float((count / items * (1 + before) / rank).sum()) / min(count, CUTOFF)
    at = {f"{name}_r{k}": float(found[min(k, items) - 1]) for k in RECALLS}
    middle = [int(np.searchsorted(found, 0.5 - e)) + 1 for e in (1e-12, -1e-12)]
    return at | {f"{name}_map{CUTOFF}": average, f"{name}_median_rank": sum(middle) / 2}

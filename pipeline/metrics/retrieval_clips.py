"""Retrieval's metrics as sums over clips, to be resampled and compared.

What is drawn is a clip with all of its captions, as queries and as answers: captions of one clip
are alike. The clips that are searched among stay the whole test set, as ranks were made so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.retrieval import CUTOFF, RECALLS
from pipeline.metrics.types import Sums, Values, mean_sums

Ints = NDArray[np.int64]
_LARGEST = 1 << 24  # counts of ranks: 128 MB. Beyond it the median has no interval


class QueryRanks(NamedTuple):
    """As :class:`pipeline.metrics.retrieval.Ranks`; ``caption`` is None where it is not known."""

    clip: Ints  # (M,)
    caption: Ints | None  # (M,)


def clip_sums(rankings: Sequence[QueryRanks], clip_of: Ints, clips: int) -> list[dict[str, Sums]]:
    """Of each ranking, the sums of every metric of :func:`pipeline.metrics.retrieval.scores`.

    Args:
        rankings: of the same M captions. Their medians can be compared, which those of two calls
            cannot.
        clip_of: (M,) each caption's clip. clips: N; those without captions are no queries.
    """
    counts = np.bincount(clip_of, minlength=clips).astype(np.float64)
    found = [_text_to_audio(own.clip, clip_of, counts) for own in rankings]
    _add_median("t2a", found, [own.clip for own in rankings], clip_of, clips)
    if any(own.caption is None for own in rankings):
        return found
    captions = [own.caption for own in rankings if own.caption is not None]
    asked = np.flatnonzero(counts)
    firsts = []
    for sums, ranks in zip(found, captions, strict=True):
        order = np.lexsort((ranks, clip_of))
        begins = np.cumsum(counts[asked].astype(np.int64)) - counts[asked].astype(np.int64)
        firsts.append(ranks[order][begins])
        sums |= _audio_to_text(ranks[order], begins, counts)
    _add_median("a2t", found, firsts, asked, clips)
    return found


def _text_to_audio(ranks: Ints, clip_of: Ints, counts: Values) -> dict[str, Sums]:
    def summed(values: Values) -> Sums:
        total = np.zeros(len(counts))
        np.add.at(total, clip_of, values)
        return mean_sums(total, counts)

    found = {f"t2a_r{k}": summed((ranks <= k).astype(np.float64)) for k in RECALLS}
    return found | {f"t2a_map{CUTOFF}": summed(np.where(ranks <= CUTOFF, 1 / ranks, 0.0))}


def _audio_to_text(ranked: Ints, begins: Ints, counts: Values) -> dict[str, Sums]:
    """``ranked`` (M,) a clip's captions after another's, each in the order of their ranks."""
    asked = counts[counts > 0]

    def spread(values: Values) -> Sums:
        whole = np.full(len(counts), np.nan)
        whole[counts > 0] = values
        return mean_sums(whole)

    def added(values: Values) -> Values:
        return np.asarray(np.add.reduceat(values, begins))

    nth = np.arange(len(ranked)) - np.repeat(begins, asked.astype(np.int64)) + 1
    precision = added(np.where(ranked <= CUTOFF, nth / ranked, 0.0))
    found = {f"a2t_r{k}": spread((ranked[begins] <= k).astype(np.float64)) for k in RECALLS}
    found[f"a2t_map{CUTOFF}"] = spread(precision / np.minimum(asked, CUTOFF))
    shares = {k: added((ranked <= k).astype(np.float64)) / asked for k in RECALLS}
    return found | {f"a2t_recall{k}": spread(share) for k, share in shares.items()}


def _add_median(
    way: str, found: Sequence[dict[str, Sums]], ranks: Sequence[Ints], owner: Ints, clips: int
) -> None:
    """The median rank: how often each rank occurs is summed over clips."""
    levels = np.unique(np.concatenate(ranks))
    if clips * len(levels) * len(ranks) > _LARGEST:
        return
    for sums, own in zip(found, ranks, strict=True):
        counts = np.zeros((clips, len(levels)))
        np.add.at(counts, (owner, np.searchsorted(levels, own)), 1.0)
        sums[f"{way}_median_rank"] = Sums(counts, partial(_median, levels))


def _median(levels: Ints, sums: Values) -> Values:
    """(…) the median of (…, K) counts of K levels, which are sorted."""
    reached = np.cumsum(sums, axis=-1)
    total = reached[..., -1:]
    middle = [np.floor((total - 1) / 2), np.floor(total / 2)]
    places = [(reached <= at + 1e-9).sum(axis=-1) for at in middle]
    lower, upper = (levels[np.minimum(place, len(levels) - 1)] for place in places)
    return np.asarray((lower + upper) / 2)

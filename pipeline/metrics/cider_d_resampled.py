"""CIDEr-D of resampled test sets, each with document frequencies of its own.

CIDEr-D weighs an n-gram by in how many clips' references it occurs, so that a clip's score hangs on
the other clips of the test set, and a test set of other clips has other weights. A resampled set
is given by how often it has each clip. Its CIDEr-D is that of a test set in which a clip that was
drawn twice stands twice.

All of it is linear in the squares of the weights idf: Σ min(h, r) · r · idf² of a candidate and a
reference, and the norms' Σ h² · idf². So these counts are kept as sparse matrices, one product
scores many resampled sets, and n-grams that occur in the same clips, which always have the same
weight, are one column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pipeline.metrics.cider_d import ORDERS, SCALE, length_penalty
from pipeline.metrics.types import Values, divided

BLOCK = 64  # resampled sets at once

Ints = NDArray[np.int64]


class _Order(NamedTuple):
    """The n-grams of one order; G groups of n-grams that occur in the same clips, one of those in
    none.
    """

    group: dict[tuple[str, ...], int]  # of each n-gram of the references
    contained: Any  # (G, N) 1 where the clip's references have the group's n-grams
    squares: Any  # (S, G) Σ r² over a group's n-grams, of each reference


class _Counts(NamedTuple):
    """One system's n-grams of one order."""

    dots: Any  # (S, G) Σ min(h, r) · r of each reference and its clip's candidate
    squares: Any  # (N, G) Σ h² of each candidate


class ResampledCiderD:
    """Of N clips with S references in all.

    Args:
        references: N rows of one or more tokenized captions, words with spaces between.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        self._clips = len(references)
        sizes = np.array([len(row) for row in references])
        self._owner = np.repeat(np.arange(self._clips), sizes)
        self._begins = np.cumsum(sizes) - sizes
        self._sizes = sizes
        words = [caption.split() for row in references for caption in row]
        self._lengths = np.array([len(each) for each in words])
        self._grams = [[_counted(each, n) for each in words] for n in range(1, ORDERS + 1)]
        self._orders = [_cooked(grams, self._owner, self._clips) for grams in self._grams]
        self._counts: dict[str, list[_Counts]] = {}  # by system and order
        self._penalties: dict[str, Values] = {}  # (S,)

    @property
    def names(self) -> list[str]:
        """Of the systems that were added."""
        return [*self._counts]

    def add(self, name: str, candidates: Sequence[str]) -> None:
        """A system's N tokenized candidates."""
        self._counts[name] = self._count(candidates)
        lengths = np.array([len(caption.split()) for caption in candidates])
        self._penalties[name] = length_penalty(lengths[self._owner], self._lengths)

    def sums(self, weights: Values, shares: Mapping[str, Values]) -> dict[str, Values]:
        """Σ over clips of weight × share × CIDEr-D, of every system and resampled set.

        Args:
            weights: (B, N) how often each of B resampled sets has each clip.
            shares: by system, (F, N); ones for the sum itself.

        Returns:
            By system, (B, F).
        """
        parts: dict[str, list[Values]] = {name: [] for name in self._counts}
        for at in range(0, len(weights), BLOCK):
            drawn = np.ascontiguousarray(weights[at : at + BLOCK].T)  # (N, b)
            squared = [_idf_squared(order, drawn) for order in self._orders]
            norms = [
                np.sqrt(order.squares @ own)
                for order, own in zip(self._orders, squared, strict=True)
            ]
            for name in self._counts:
                scores = self._clip_scores(name, squared, norms)
                parts[name].append((shares[name] @ (scores * drawn)).T)
        return {name: np.concatenate(own) for name, own in parts.items()}

    def _clip_scores(self, name: str, squared: Sequence[Values], norms: Sequence[Values]) -> Values:
        """(N, b) CIDEr-D of each clip in each set.

        Args:
            squared: by order, (G, b) squares of the weights. norms: by order, (S, b).
        """
        penalty = self._penalties[name][:, None]
        clips = np.zeros((self._clips, squared[0].shape[1]))
        for own, weight, norm in zip(self._counts[name], squared, norms, strict=True):
            pairs = divided(own.dots @ weight, norm)
            pairs *= penalty
            summed = np.add.reduceat(pairs, self._begins, axis=0)
            clips += divided(summed, np.sqrt(own.squares @ weight))
        clips *= SCALE / ORDERS / self._sizes[:, None]
        return clips

    def _count(self, candidates: Sequence[str]) -> list[_Counts]:
        words = [caption.split() for caption in candidates]
        found = []
        for n, (order, references) in enumerate(zip(self._orders, self._grams, strict=True), 1):
            own = [_counted(each, n) for each in words]
            unknown = order.contained.shape[0] - 1
            squares = _matrix(
                (
                    (clip, order.group.get(gram, unknown), times**2.0)
                    for clip, gram, times in _flat(own)
                ),
                (self._clips, unknown + 1),
            )
            dots = _matrix(
                (
                    (at, order.group[gram], float(min(times, said[gram]) * times))
                    for at, (said, reference) in enumerate(
                        zip((own[clip] for clip in self._owner), references, strict=True)
                    )
                    for gram, times in reference.items()
                    if gram in said
                ),
                (len(references), unknown + 1),
            )
            found.append(_Counts(dots, squares))
        return found


def _counted(words: Sequence[str], n: int) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    for at in range(len(words) - n + 1):
        gram = tuple(words[at : at + n])
        found[gram] = found.get(gram, 0) + 1
    return found


def _flat(
    counts: Sequence[Mapping[tuple[str, ...], int]],
) -> Iterator[tuple[int, tuple[str, ...], int]]:
    return ((at, gram, times) for at, own in enumerate(counts) for gram, times in own.items())


def _cooked(references: Sequence[Mapping[tuple[str, ...], int]], owner: Ints, clips: int) -> _Order:
    within: dict[tuple[str, ...], dict[int, None]] = {}
    for clip, own in zip(owner.tolist(), references, strict=True):
        for gram in own:
            within.setdefault(gram, {})[clip] = None
    groups: dict[tuple[int, ...], int] = {}
    group = {gram: groups.setdefault((*which,), len(groups)) for gram, which in within.items()}
    contained = _matrix(
        ((place, clip, 1.0) for which, place in groups.items() for clip in which),
        (len(groups) + 1, clips),
    )
    squares = _matrix(
        ((at, group[gram], times**2.0) for at, gram, times in _flat(references)),
        (len(references), len(groups) + 1),
    )
    return _Order(group, contained, squares)


def _matrix(entries: Iterator[tuple[int, int, float]], shape: tuple[int, int]) -> Any:
    """Entries of one place are summed."""
    found = np.array([*entries], dtype=np.float64).reshape(-1, 3)
    rows, columns = found[:, 0].astype(np.int64), found[:, 1].astype(np.int64)
    return csr_array((found[:, 2], (rows, columns)), shape=shape)


def _idf_squared(order: _Order, drawn: Values) -> Values:
    """(G, b); an n-gram of no clip of a set counts as that of one."""
    found = order.contained @ drawn
    np.maximum(found, 1.0, out=found)
    np.log(found, out=found)
    np.subtract(np.log(drawn.sum(axis=0)), found, out=found)
    return np.square(found, out=found)

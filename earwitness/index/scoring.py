"""How well stored sounds fit a query: one matrix product, and how several queries are combined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Kind = Literal["cosine", "dot", "distance"]
MEASURES: dict[str, Kind] = {"cosine": "cosine", "dot": "dot", "distance": "distance"}
BLOCK = 1 << 12  # rows at once, where they are changed before the product
LEAST = 1e-6  # a deviation, or a norm, below which all are equal


class Member(NamedTuple):
    """One retriever's part of an embedding: D values, and how it compares them."""

    width: int
    measure: Kind


class Query(NamedTuple):
    """What is compared with every row: the embedding of a text, or of a sound."""

    row: Values  # (D,)
    is_sound: bool


def scores(query: Query, rows: NDArray[Any], members: Sequence[Member]) -> Values:
    """(N,) similarity of a query with (N, D) rows, float32 or int8: the mean over the members.

    A text is compared as the system was trained: by the cosine, the dot product, or minus the
    Euclidean distance. A sound is compared with sounds by the cosine where it was one of the first
    two, so that a loud one is not like everything.
    """
    if all(each.measure == "cosine" for each in members) and rows.dtype == np.float32:
        product: Values = rows @ _scaled(query, members)
        return product
    found = np.zeros(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK].astype(np.float32)
        found[start : start + BLOCK] = _block_scores(query, block, members)
    return found


def window_scores(
    query: Query, windows: NDArray[np.int8], scales: Values, members: Sequence[Member]
) -> Values:
    """(W,) as :func:`scores`, of rows in int8 and what each is to be multiplied by."""
    if all(each.measure == "cosine" for each in members):
        row, found = _scaled(query, members), np.empty(len(windows), np.float32)
        for start in range(0, len(windows), BLOCK):
            found[start : start + BLOCK] = windows[start : start + BLOCK].astype(np.float32) @ row
        return found * scales
    found = np.empty(len(windows), np.float32)
    for start in range(0, len(windows), BLOCK):
        block = windows[start : start + BLOCK] * scales[start : start + BLOCK, None]
        found[start : start + BLOCK] = _block_scores(query, block, members)
    return found


def _scaled(query: Query, members: Sequence[Member]) -> Values:
    """(D,) of which the product with a row is the mean of the members' cosines."""
    row = query.row / len(members)
    return row.astype(np.float32)


def _block_scores(query: Query, block: Values, members: Sequence[Member]) -> Values:
    total, at = np.zeros(len(block), np.float32), 0
    for width, measure in members:
        own, row = block[:, at : at + width], query.row[at : at + width]
        if measure == "distance":
            total -= np.linalg.norm(own - row, axis=1)
        elif measure == "dot" and query.is_sound:
            norms = np.linalg.norm(own, axis=1) * np.linalg.norm(row)
            total += own @ row / np.maximum(norms, LEAST)
        else:
            total += own @ row
        at += width
    return total / np.float32(len(members))


def combined(
    score: Callable[[Query], Values], wanted: Sequence[Query], unwanted: Sequence[Query]
) -> Values:
    """(N,) of one query its similarity; of several, how far above the average a row is.

    Similarities of a text and of a sound have other ranges. So of several queries each one's are
    standardised over the index: less their mean, over their standard deviation. The score is then
    the mean over ``wanted``, less the mean over ``unwanted`` of what is above 0: to be unlike an
    unwanted sound is no merit, to be like it is a fault of the same weight.
    """
    if len(wanted) == 1 and not unwanted:
        return score(wanted[0])
    total = np.mean([_standardised(score(query)) for query in wanted], axis=0)
    if unwanted:
        alike = [np.maximum(_standardised(score(query)), 0) for query in unwanted]
        total = total - np.mean(alike, axis=0)
    result: Values = total
    return result


def _standardised(values: Values) -> Values:
    if not len(values):
        return values
    deviation = float(values.std())
    return (values - values.mean()) / np.float32(deviation if deviation > LEAST else 1.0)


def best(values: Values, count: int) -> NDArray[np.int64]:
    """The indices of the ``count`` highest, best first; of equal ones the first."""
    if count < len(values):
        least = np.partition(values, len(values) - count)[len(values) - count]
        kept = np.flatnonzero(values >= least)
    else:
        kept = np.arange(len(values))
    return kept[np.argsort(-values[kept], kind="stable")][:count]

"""Inverted lists (IVF; Sivic & Zisserman 2003; Jégou et al. 2011): a query is compared with the
sounds near it alone.

The entries of an index are sorted by the centroid that each is nearest to, so that a list is one
run of rows of the memory-mapped table. What is in the lists is compared exactly, as without them:
scores are the same, and only sounds in other lists can be missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earwitness.index.scoring import Member, Query, Values, best, scores

MOST = 100  # results that lists are used for; recall is measured up to so many


@dataclass(frozen=True)
class InvertedLists:
    """E entries in C lists: those of list c are ``range(ends[c - 1], ends[c])``.

    ``recall``: the share of the exact best ten that is found, of held-out queries of each kind:
    ``sound`` and ``text``.
    """

    centroids: Values  # (C, D)
    ends: NDArray[np.int64]  # (C,)
    probes: int  # lists that a query is compared with
    recall: dict[str, float]

    @staticmethod
    def parse(
        values: Any, centroids: Values, ends: NDArray[np.int64], entries: int
    ) -> InvertedLists:
        """Of an index's header and tables; what does not fit is a ValueError."""
        recall = {str(kind): float(share) for kind, share in values["recall"].items()}
        probes, count = int(values["probes"]), len(centroids)
        if not (1 <= probes <= count and all(0 <= share <= 1 for share in recall.values())):
            raise ValueError(f"{probes} of its {count} lists are searched")
        bounds = np.concatenate([[0], ends])
        if ends.shape != (count,) or ends[-1] != entries or (bounds[1:] < bounds[:-1]).any():
            raise ValueError("its lists do not hold each sound once")
        return InvertedLists(centroids, ends, probes, recall)

    def near(self, query: Query, members: Sequence[Member]) -> list[range]:
        """The entries of the lists that are nearest to a query."""
        chosen = np.sort(best(scores(query, self.centroids, members), self.probes))
        ends = self.ends[chosen].tolist()
        starts = np.where(chosen > 0, self.ends[chosen - 1], 0).tolist()
        return [range(start, end) for start, end in zip(starts, ends, strict=True)]

    def search(
        self, query: Query, rows: Values, members: Sequence[Member], count: int
    ) -> tuple[NDArray[np.int64], Values]:
        """The ``count`` best entries of the lists near a query, best first, and their scores.

        Args:
            rows: (E, D) of all entries.
        """
        runs = self.near(query, members)
        entries = np.concatenate([np.arange(run.start, run.stop) for run in runs])
        found = np.concatenate([scores(query, rows[r.start : r.stop], members) for r in runs])
        order = best(found, count)
        return entries[order], found[order]

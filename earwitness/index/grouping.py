"""Sorts an index into inverted lists by FAISS, and measures what a search in them finds.

FAISS makes the centroids; the lists lie in the index's own file, so that no file of FAISS's own
format, which is not safe to read from anybody, is ever read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from earwitness.index.layout import FILE, Entries, read_index, write_index
from earwitness.index.lists import MOST, InvertedLists
from earwitness.index.scoring import Member, Query, Values, best, scores
from earwitness.retrieval import RetrievalSystem
from pipeline.corpora.synthesis.words import EVENT_WORDS
from pipeline.errors import EarwitnessError

LIMIT = 1_000_000  # sounds; an index of more is sorted into lists, if nothing is said
FEW = 100  # of fewer there are no lists
RECALL = 0.95  # of the exact best, that is to be found
MARGIN = 0.01  # more than that of the queries that the lists' number is chosen by
POINTS, ROUNDS = 40, 8  # of k-means: sounds a centroid that it sees, and iterations
SOUNDS, TEXTS = 120, 120  # queries that recall is measured by
SHARE = 4  # where more than a quarter of the lists were needed, all are compared
BLOCK = 1 << 14  # rows at once
TOP = 10
UNSORTED = f".{FILE}~unsorted"  # an index before its sounds are sorted into lists

EmbedText = Callable[[Sequence[str]], Values]
Notice = Callable[[str], None]


class Grouped(NamedTuple):
    """What an index is sorted by."""

    lists: InvertedLists
    order: NDArray[np.int64]  # (E,) which entry comes where


class Sorting(NamedTuple):
    """Whether an index is sorted into lists, and how."""

    approximate: bool | None
    notice: Notice

    def wanted(self, had: bool, entries: int) -> bool:
        """For an index of so many different sounds, which ``had`` lists or not."""
        if entries < FEW:
            if self.approximate:
                self.notice(f"fewer than {FEW} sounds: a search compares with all of them")
            return False
        if self.approximate is not None:
            return self.approximate
        if not had and entries > LIMIT and faiss_module() is None:
            self.notice(
                f"more than {LIMIT:,} sounds are searched faster with FAISS: pip install "
                "'earwitness[faiss]'"
            )
            return False
        return had or entries > LIMIT

    def sorted(
        self, source: Path, target: Path, old: InvertedLists | None, system: RetrievalSystem
    ) -> InvertedLists | None:
        """Moves an index to its place, sorted; or as it is, where lists do not find enough."""
        stored = read_index(source)
        try:
            made = grouped(stored.entries, stored.header.members, system.embed_text, old)
        except EarwitnessError as error:
            if self.approximate:
                source.unlink()
                raise
            self.notice(f"every search compares with all sounds: {error}")
            source.replace(target)
            return None
        place = np.empty(len(made.order), np.int64)
        place[made.order] = np.arange(len(made.order))
        files = replace(stored.files, entry=place[stored.files.entry])
        write_index(target, stored.header, [(stored.entries, made.order)], files, made.lists)
        source.unlink()
        return made.lists


def faiss_module() -> ModuleType | None:
    """None: it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    found: ModuleType = faiss
    return found


def needed_faiss() -> ModuleType:
    """FAISS.

    Raises:
        EarwitnessError: it is not installed.
    """
    faiss = faiss_module()
    if faiss is None:
        raise EarwitnessError(
            "an approximate search needs FAISS; install it: pip install 'earwitness[faiss]'"
        )
    return faiss


def grouped(
    entries: Entries,
    members: Sequence[Member],
    embed_text: EmbedText,
    old: InvertedLists | None = None,
) -> Grouped:
    """Lists of an index's entries.

    Args:
        embed_text: N texts → (N, D), for the queries that recall is measured by.
        old: of the index before; its centroids are kept while they are as many as are needed.

    Raises:
        EarwitnessError: FAISS is not installed, or lists do not find enough.
    """
    faiss, rows = needed_faiss(), entries.rows
    count = max(1, round(2 * len(rows) ** 0.5))
    if old is not None and old.centroids.shape[1] == rows.shape[1] and _near(old, count):
        centroids: Values = np.array(old.centroids)
    else:
        centroids = _centroids(faiss, rows, count, all(m.measure == "cosine" for m in members))
    own = _nearest(faiss, rows, centroids)
    order = np.argsort(own, kind="stable")
    ends = np.cumsum(np.bincount(own, minlength=len(centroids)))
    queries = _queries(rows, embed_text)
    found = {kind: _needed(asked, rows, members, centroids, own) for kind, asked in queries.items()}
    return Grouped(_chosen(found, centroids, ends), order)


def _near(old: InvertedLists, count: int) -> bool:
    return 0.7 * count <= len(old.centroids) <= 1.4 * count


def _centroids(faiss: ModuleType, rows: Values, count: int, unit: bool) -> Values:
    """(C, D) by k-means on a sample; of ``unit`` length, where rows are."""
    draw = np.random.default_rng(0)
    chosen = np.sort(draw.choice(len(rows), min(len(rows), POINTS * count), replace=False))
    means = faiss.Kmeans(
        rows.shape[1], count, niter=ROUNDS, seed=1, spherical=unit,
        min_points_per_centroid=1, max_points_per_centroid=POINTS,
    )  # fmt: skip
    means.train(np.ascontiguousarray(rows[chosen], np.float32))
    found: Values = means.centroids
    return found


def _nearest(faiss: ModuleType, rows: Values, centroids: Values) -> NDArray[np.int64]:
    """(E,) the centroid of each entry."""
    flat = faiss.IndexFlatL2(centroids.shape[1])
    flat.add(np.ascontiguousarray(centroids))
    found = np.empty(len(rows), np.int64)
    for start in tqdm(range(0, len(rows), BLOCK), "sorting", disable=None, delay=2):
        block = np.ascontiguousarray(rows[start : start + BLOCK], np.float32)
        found[start : start + BLOCK] = flat.search(block, 1)[1][:, 0]
    return found


def sentences(count: int) -> list[str]:
    """What is asked to measure recall: one thing that sounds, or two."""
    wordings = [one for words in EVENT_WORDS.values() for one in words.wordings]
    single = [f"{one.subject} {one.verb}".replace("~", "") for one in wordings]
    pairs = itertools.combinations(single, 2)
    double = np.random.default_rng(0).permutation([f"{a} while {b}" for a, b in pairs])
    return [*single, *double.tolist()][:count]


def _queries(rows: Values, embed_text: EmbedText) -> dict[str, list[tuple[Query, int]]]:
    """Of each kind, with the entry that a query is itself; -1: none."""
    chosen = np.random.default_rng(1).choice(len(rows), min(len(rows), SOUNDS), replace=False)
    texts = embed_text(sentences(TEXTS))
    return {
        "sound": [(Query(np.array(rows[at]), True), at) for at in chosen.tolist()],
        "text": [(Query(row, False), -1) for row in texts],
    }


class Needed(NamedTuple):
    """How far down the lists, nearest first, the exact best of Q queries lie."""

    ten: NDArray[np.int64]  # (Q, 10)
    hundred: NDArray[np.int64]  # (Q, 100)


def _needed(
    queries: Sequence[tuple[Query, int]],
    rows: Values,
    members: Sequence[Member],
    centroids: Values,
    own: NDArray[np.int64],
) -> Needed:
    exact = exact_best([query for query, _ in queries], rows, members, MOST + 1)
    found = []
    for (query, itself), entries in zip(queries, exact, strict=True):
        others = entries[entries != itself][:MOST]
        order = np.argsort(-scores(query, centroids, members), kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        found.append(place[own[others]])
    hundred = np.array(found)
    return Needed(hundred[:, :TOP], hundred)


def exact_best(
    queries: Sequence[Query], rows: Values, members: Sequence[Member], count: int
) -> list[NDArray[np.int64]]:
    """The ``count`` best entries of each query, best first, by one pass over the rows."""
    cosine = all(each.measure == "cosine" for each in members)
    asked = np.stack([query.row for query in queries]).T / np.float32(len(members))  # (D, Q)
    at = [np.empty(0, np.int64) for _ in queries]
    values = [np.empty(0, np.float32) for _ in queries]
    for start in tqdm(range(0, len(rows), BLOCK), "measuring", disable=None, delay=2):
        block = rows[start : start + BLOCK]
        product = block @ asked if cosine else None
        for number, query in enumerate(queries):
            own = scores(query, block, members) if product is None else product[:, number]
            joined = np.concatenate([values[number], own])
            chosen = best(joined, count)
            places = np.concatenate([at[number], np.arange(start, start + len(block))])
            at[number], values[number] = places[chosen], joined[chosen]
    return at


def _chosen(found: dict[str, Needed], centroids: Values, ends: NDArray[np.int64]) -> InvertedLists:
    """By half of the queries so many lists that enough is found; by the others what is found."""
    probes = 1
    for needed in found.values():
        for places in needed:
            asked = np.sort(places[::2].ravel())
            enough = min(len(asked) - 1, int(np.ceil((RECALL + MARGIN) * len(asked))) - 1)
            probes = max(probes, int(asked[enough]) + 1)
    recall = {kind: float((each.ten[1::2] < probes).mean()) for kind, each in found.items()}
    if probes > max(1, len(centroids) // SHARE):
        raise EarwitnessError(
            f"{probes} of {len(centroids)} lists would have to be compared to find "
            f"{RECALL:.0%} of the best: leave --approximate out"
        )
    return InvertedLists(centroids, ends, probes, recall)

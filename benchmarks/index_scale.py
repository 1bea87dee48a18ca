"""The index of up to millions of sounds: ``python -m benchmarks.index_scale [COUNT …]``.

Exact search, one product with all rows of the memory-mapped file, against the inverted lists that
FAISS makes: times and the recall of the exact best ten. The rows, 512 values of float32, are made
as embeddings of real sound lie: a mixture of Gaussians on the sphere, one cluster for 500 sounds,
of unequal sizes, in which the cosine of two sounds is 0.67 on average. Texts are points of the same
clusters, farther from their middle, all moved by one vector, as a modality gap does. Isotropic rows
would have no near ones to find. The file of a million takes 2 GB, and two of them are there while
it is sorted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
from numpy.typing import NDArray

from earwitness.index.grouping import Sorting
from earwitness.index.layout import FILE, Entries, FileTable, IndexHeader, read_index, write_index
from earwitness.index.lists import MOST
from earwitness.index.opened import SoundIndex
from earwitness.index.origin import Origin
from earwitness.index.scoring import Member
from earwitness.retrieval import RetrievalSystem

COUNTS, WIDTH, A_CLUSTER = (100_000, 1_000_000), 512, 500
NEAR, FAR, GAP = 0.7, 1.1, 0.5  # norms: of a sound and a text from the middle, and of the gap
BLOCK, QUERIES = 1 << 14, 40
Rows = NDArray[np.float32]


class Mixture:
    """Clusters on the sphere."""

    def __init__(self, count: int) -> None:
        self.draw = np.random.default_rng(0)
        self.centres = unit(self.drawn(max(1, count // A_CLUSTER)))
        shares = self.draw.pareto(1.5, len(self.centres)) + 0.2
        self.ends = np.cumsum(shares / shares.sum())
        self.gap = GAP * unit(self.drawn(1))

    def drawn(self, count: int) -> Rows:
        return self.draw.standard_normal((count, WIDTH), dtype=np.float32)

    def points(self, count: int, far: float) -> Rows:
        own = np.searchsorted(self.ends, self.draw.random(count)).clip(max=len(self.ends) - 1)
        return self.centres[own] + far * self.drawn(count) / np.float32(WIDTH**0.5)

    def embed_text(self, texts: Sequence[str]) -> Rows:
        return unit(self.points(len(texts), FAR) + self.gap)


def unit(rows: Rows) -> Rows:
    found: Rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def write(path: Path, count: int, mixture: Mixture) -> None:
    raw = path.with_suffix(".raw")
    rows = np.memmap(raw, np.float32, "w+", shape=(count, WIDTH))
    for start in range(0, count, BLOCK):
        rows[start : start + BLOCK] = unit(mixture.points(min(BLOCK, count - start), NEAR))
    entries = replace(
        Entries.none(WIDTH),
        digests=mixture.draw.integers(0, 256, (count, 32), np.uint8),
        seconds=np.full(count, 10, np.float32),
        rows=rows.view(np.ndarray),
        counts=np.zeros(count, np.int64),
    )
    files = FileTable(
        tuple(f"station {n % 50:02}/{n:08}.flac" for n in range(count)),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.arange(count),
    )
    header = IndexHeader(".", ("",), Origin("x", "", "", "", {}), (Member(WIDTH, "cosine"),), False)
    write_index(path, header, [(entries, np.arange(count))], files)
    raw.unlink()


def opened(path: Path, mixture: Mixture) -> tuple[SoundIndex, float]:
    start = time.perf_counter()
    index = SoundIndex(read_index(path), path.parent, system=cast(RetrievalSystem, mixture))
    return index, time.perf_counter() - start


def query_time(index: SoundIndex, top: int) -> float:
    """Milliseconds, the median; what is mapped is in memory after the first ones."""
    took = []
    for number in range(QUERIES):
        start = time.perf_counter()
        index.search(str(number), top=top)
        took.append(1000 * (time.perf_counter() - start))
    return float(np.median(took[QUERIES // 4 :]))


def measure(folder: Path, count: int) -> None:
    mixture = Mixture(count)
    source, path = folder / "unsorted.h5", folder / FILE
    write(source, count, mixture)
    index, load = opened(source, mixture)
    exact = query_time(index, 10)
    del index
    print(f"| {count:,} | exact | – | {load:.1f} s | {exact:.0f} ms | 1 | 100 % |", flush=True)
    start = time.perf_counter()
    lists = Sorting(True, print).sorted(source, path, None, cast(RetrievalSystem, mixture))
    build = time.perf_counter() - start
    assert lists is not None
    index, load = opened(path, mixture)
    near, again = query_time(index, 10), query_time(index, MOST + 1)
    recall = ", ".join(f"{kind} {share:.1%}" for kind, share in lists.recall.items())
    what = f"{lists.probes} of {len(lists.centroids):,} lists"
    print(f"| {count:,} | {what} | {build:.0f} s | {load:.1f} s | {near:.1f} ms ", end="")
    print(f"| {again / near:.0f} | {recall} |", flush=True)


def main(counts: Sequence[int]) -> None:
    print("| sounds | compared | sorted in | opened in | a query | times as fast | recall@10 |")
    print("|---:|---|---:|---:|---:|---:|---|", flush=True)
    for count in counts:
        with TemporaryDirectory() as folder:
            measure(Path(folder), count)


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or COUNTS)

"""Projection decoding over a large text memory: blocks against the whole similarity matrix.

The obvious way converts the whole memory to float32 unit vectors and takes the softmax over all
similarities; it is timed on a slice, as the whole would not fit. Ours reads the mapped float16 file
in blocks. Both give the same embeddings on the slice. Peaks are the growth of anonymous memory,
without the pages of the file, which the system may drop at any time.

Run it as ``python -m benchmarks.memory``; ``python -m benchmarks.memory 20000 5000`` is small.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import Row, compare, print_table, seconds
from pipeline.decoding.text_memory import TextMemory
from pipeline.features.bank import FeatureBank
from pipeline.features.store import FeatureStore, Header, write_store

CAPTIONS, SLICE, WIDTH, BATCH = 600_000, 60_000, 1024, 64
TEMPERATURE = 0.01
WRITTEN = 1 << 14  # rows at once
TARGET = 0.8  # blocks save memory, and may take a little more time


class Peak:
    """The growth in MB of this process's anonymous memory to its peak in the context."""

    def __enter__(self) -> Peak:
        self.start = self.most = anonymous()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    @property
    def megabytes(self) -> float:
        return (self.most - self.start) / 1e6

    def _watch(self) -> None:
        while not self.done.wait(0.002):
            self.most = max(self.most, anonymous())


def anonymous() -> int:
    """Anonymous memory in bytes, as Linux counts it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def write(path: Path, captions: int) -> None:
    random = np.random.default_rng(0)

    def blocks() -> Iterator[NDArray[np.float16]]:
        for at in range(0, captions, WRITTEN):
            rows = min(WRITTEN, captions - at)
            yield random.standard_normal((rows, WIDTH), np.float32).astype(np.float16)

    ids = [f"clip-{number}#0" for number in range(captions)]
    ones = np.ones(captions, np.int64)
    write_store(path, Header("text", {}, "", 0.0), ids, ones, WIDTH, blocks())


def whole(values: NDArray[np.float16], queries: Tensor) -> Tensor:
    """The plain formula (WSAC eq. 4, 5)."""
    rows = F.normalize(torch.from_numpy(values.astype(np.float32)), dim=-1)
    return (queries @ rows.T / TEMPERATURE).softmax(-1) @ rows


def measured(call: Callable[[], Tensor]) -> tuple[float, float]:
    """Seconds, and MB at the peak."""
    with Peak() as peak:
        taken = seconds(call)
    return taken, peak.megabytes


def measure(captions: int, part: int) -> list[Row]:
    torch.set_num_threads(1)
    queries = F.normalize(torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(1)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "text.h5"
        write(path, captions)
        store = FeatureStore.open(path)
        ids = store.ids[:part]
        few, every = (
            TextMemory(
                FeatureBank(store, device_bytes=0, ram_bytes=0, ids=names),
                "projection",
                TEMPERATURE,
            )
            for names in (ids, store.ids)
        )

        def slow() -> Tensor:
            return whole(store.values[:part], queries)

        def fast() -> Tensor:
            return few.recall(queries)

        torch.testing.assert_close(fast(), slow(), atol=1e-4, rtol=1e-3)
        row = compare(f"projection of {BATCH} clips over {part:,} captions", slow, fast, TARGET, 3)
        for name, size, call in (
            ("the whole matrix", part, slow),
            ("blocks", part, fast),
            ("blocks", captions, lambda: every.recall(queries)),
        ):
            taken, peak = measured(call)
            print(f"{name}, {size:,} × {WIDTH:,}: {taken:.2f} s, {peak:,.0f} MB at the peak")
    print()
    return [row]


if __name__ == "__main__":
    sizes = [int(number) for number in sys.argv[1:3]]
    print_table(measure(*sizes) if sizes else measure(CAPTIONS, SLICE))

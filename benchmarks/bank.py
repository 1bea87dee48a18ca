"""Training batches from the bank against per-item HDF5 reads: ``python -m benchmarks.bank``.

The obvious way is a Dataset that opens the file and reads a clip, a DataLoader with two persistent
workers, and padding in its collate function. Both give one epoch of the same padded float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from benchmarks.timing import Row, compare, print_table
from pipeline.features.bank import FeatureBank
from pipeline.features.store import FeatureStore, Header, write_store

CLIPS, FRAMES, WIDTH, BATCH = 2000, 32, 768, 32  # EDTC's shape
WORKERS = 2
TARGET = 10.0


class Items(Dataset[Tensor]):
    """One clip an item; each worker opens the file itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: h5py.File | None = None

    def __len__(self) -> int:
        return CLIPS

    def __getitem__(self, clip: int) -> Tensor:
        if self.file is None:
            self.file = h5py.File(self.path, "r")
        start, stop = self.file["offsets"][clip : clip + 2]
        return torch.from_numpy(self.file["values"][start:stop]).float()


def padded(items: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(B, T, D) and (B,)."""
    return pad_sequence(items, batch_first=True), torch.tensor([len(item) for item in items])


def write(path: Path) -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(FRAMES // 2, FRAMES + 1, CLIPS)
    values = random.standard_normal((lengths.sum(), WIDTH), np.float32).astype(np.float16)
    ids = [f"clip-{number}" for number in range(CLIPS)]
    write_store(path, Header("x", {}, "", 0.32), ids, lengths, WIDTH, [values])


def bank_epoch(bank: FeatureBank, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for entries in order.split(BATCH):
        yield bank.batch(entries)


def check(loader: DataLoader[Tensor], bank: FeatureBank) -> None:
    """Both give the same batches."""
    pairs = zip(loader, bank_epoch(bank, torch.arange(CLIPS)), strict=True)
    for read, gathered in pairs:
        assert all(map(torch.equal, read, gathered))


def measure() -> list[Row]:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "features.h5"
        write(path)
        items = Items(path)
        store = FeatureStore.open(path)
        ram = FeatureBank(store, device_bytes=0, ram_bytes=1 << 40)
        mapped = FeatureBank(store, device_bytes=0, ram_bytes=0)
        in_order = DataLoader(items, BATCH, collate_fn=padded)
        check(in_order, ram)
        check(in_order, mapped)
        loader = DataLoader(
            items,
            BATCH,
            shuffle=True,
            collate_fn=padded,
            num_workers=WORKERS,
            persistent_workers=True,
        )

        def consume(batches: Iterable[tuple[Tensor, Tensor]]) -> None:
            for _ in batches:
                pass

        def row(where: str, bank: FeatureBank) -> Row:
            return compare(
                f"training batches, bank in {where}",
                lambda: consume(loader),
                lambda: consume(bank_epoch(bank, torch.randperm(CLIPS))),
                TARGET,
            )

        return [row("RAM", ram), row("the mapped file", mapped)]


if __name__ == "__main__":
    print_table(measure())

"""Batches of the bank against slow reads of one entry at a time with h5py."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pipeline.errors import EarwitnessError
from pipeline.features.bank import FeatureBank, choose_place, free_budgets
from pipeline.features.store import FeatureStore, Header, write_store

PLENTY = 1 << 40
CLIPS, VIEWS = 23, 3


def make(path: Path, seed: int, width: int) -> FeatureStore:
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 12, CLIPS * VIEWS)
    values = random.standard_normal((lengths.sum(), width)).astype(np.float16)
    ids = [f"clip-{i}" for i in range(CLIPS)]
    write_store(path, Header("x", {}, "", 0.01, VIEWS), ids, lengths, width, [values])
    return FeatureStore.open(path)


def slow_batch(path: Path, entries: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    with h5py.File(path, "r") as file:
        pairs = [file["offsets"][e : e + 2] for e in entries]
        items = [torch.from_numpy(file["values"][a:b]).float() for a, b in pairs]
    padded = torch.nn.utils.rnn.pad_sequence(items, batch_first=True)
    return padded, torch.tensor([len(item) for item in items])


@pytest.mark.parametrize("ram_bytes", [PLENTY, 0], ids=["ram", "mapped"])
@pytest.mark.parametrize("seed", range(10))
def test_batches_equal_slow_reads(tmp_path: Path, seed: int, ram_bytes: int) -> None:
    path = tmp_path / "x.h5"
    random = np.random.default_rng(seed)
    store = make(path, seed, int(random.integers(1, 9)))
    bank = FeatureBank(store, device_bytes=0, ram_bytes=ram_bytes)
    assert bank.place == ("ram" if ram_bytes else "mapped")
    assert len(bank) == CLIPS * VIEWS
    for size in (1, 4, 50):
        entries = random.integers(0, len(bank), size)  # some stand twice
        values, lengths = slow_batch(path, entries.tolist())
        batch = bank.batch(torch.from_numpy(entries))
        assert batch.values.dtype == torch.float32
        assert torch.equal(batch.values, values)
        assert torch.equal(batch.lengths, lengths)


@pytest.mark.parametrize("ram_bytes", [PLENTY, 0], ids=["ram", "mapped"])
def test_a_selection_holds_its_clips_in_the_given_order(tmp_path: Path, ram_bytes: int) -> None:
    store = make(tmp_path / "x.h5", 3, 5)
    ids = ["clip-7", "clip-22", "clip-0"]
    bank = FeatureBank(store, device_bytes=0, ram_bytes=ram_bytes, ids=ids)
    assert bank.ids == tuple(ids)
    entries = torch.arange(len(ids) * VIEWS)
    originals = [clip * VIEWS + view for clip in (7, 22, 0) for view in range(VIEWS)]
    values, lengths = slow_batch(tmp_path / "x.h5", originals)
    batch = bank.batch(entries)
    assert torch.equal(batch.values, values)
    assert torch.equal(batch.lengths, lengths)
    item = torch.from_numpy(np.array(store.entry(22, 2))).float()
    assert torch.equal(bank.entry(1, 2), item)
    with pytest.raises(IndexError):
        bank.entry(3)


def test_a_selection_takes_no_more_memory_than_its_frames(tmp_path: Path) -> None:
    store = make(tmp_path / "x.h5", 3, 5)
    ids = ["clip-1", "clip-2"]
    size = int(store.lengths[3:9].sum()) * 5 * 2
    fits = FeatureBank(store, device_bytes=0, ram_bytes=size, ids=ids)
    beyond = FeatureBank(store, device_bytes=0, ram_bytes=size - 1, ids=ids)
    assert (fits.place, beyond.place) == ("ram", "mapped")


def test_the_place_follows_the_budgets() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert choose_place(100, cuda, 100, 0) == "device"
    assert choose_place(101, cuda, 100, 101) == "ram"
    assert choose_place(102, cuda, 100, 101) == "mapped"
    assert choose_place(100, cpu, 100, 0) == "mapped"
    device, ram = free_budgets("cpu")
    assert device == 0
    assert ram > 0


def test_compute_dtype_and_an_empty_batch(tmp_path: Path) -> None:
    store = make(tmp_path / "x.h5", 4, 5)
    bank = FeatureBank(store, device_bytes=0, ram_bytes=PLENTY, dtype=torch.bfloat16)
    assert bank.batch(torch.tensor([0, 4])).values.dtype == torch.bfloat16
    empty = bank.batch(torch.tensor([], dtype=torch.int64))
    assert empty.values.shape == (0, 0, 5)


def test_an_unknown_id_is_named(tmp_path: Path) -> None:
    (tmp_path / "clotho").mkdir()
    store = make(tmp_path / "clotho" / "panns.h5", 0, 2)
    with pytest.raises(EarwitnessError, match=r"'cat'; run `dvc repro -f extract@clotho-panns`"):
        FeatureBank(store, device_bytes=0, ram_bytes=0, ids=["clip-1", "cat"])

"""Batches of the bank against slow reads of one entry at a time with h5py."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pipeline.errors import EarwitnessError
from pipeline.features.bank import Crop, FeatureBank, choose_place, free_budgets, length_batches
from pipeline.features.mixture import MixtureBank, open_mixture
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
    with pytest.raises(
        EarwitnessError, match=r"panns\.h5: no features of 'cat'; delete it and run `dvc"
    ):
        FeatureBank(store, device_bytes=0, ram_bytes=0, ids=["clip-1", "cat"])


@pytest.mark.parametrize("ram_bytes", [PLENTY, 0], ids=["ram", "mapped"])
@pytest.mark.parametrize("seed", range(5))
def test_a_crop_is_a_slice(tmp_path: Path, seed: int, ram_bytes: int) -> None:
    path = tmp_path / "x.h5"
    random = np.random.default_rng(seed)
    ids = [f"clip-{i}" for i in random.permutation(CLIPS)[:9]]
    store = make(path, seed, 4)
    bank = FeatureBank(store, device_bytes=0, ram_bytes=ram_bytes, ids=ids)
    entries = torch.from_numpy(random.integers(0, len(bank), 20))
    starts = [int(random.integers(0, bank.lengths[e] + 1)) for e in entries]
    pairs = zip(starts, entries, strict=True)
    lengths = [int(random.integers(0, bank.lengths[e] - s + 1)) for s, e in pairs]
    batch = bank.batch(entries, Crop(torch.tensor(starts), torch.tensor(lengths)))
    assert batch.lengths.tolist() == lengths and batch.values.shape[1] == max(lengths)
    for row, (entry, start, length) in enumerate(zip(entries, starts, lengths, strict=True)):
        clip, view = divmod(int(entry), VIEWS)
        with h5py.File(path, "r") as file:
            at = store.ids.index(ids[clip]) * VIEWS + view
            whole = file["values"][file["offsets"][at] : file["offsets"][at + 1]]
        expected = torch.zeros(max(lengths), 4)
        expected[:length] = torch.from_numpy(whole[start : start + length]).float()
        assert torch.equal(batch.values[row], expected)
    for crop in (
        Crop(torch.tensor([-1]), torch.tensor([1])),
        Crop(bank.lengths[:1], entries[:1] + 1),
    ):
        with pytest.raises(ValueError, match="beyond"):
            bank.batch(torch.tensor([0]), crop)


def test_a_mixture_is_its_stores_one_after_another(tmp_path: Path) -> None:
    """Whole and cropped, in any order, with parts of it absent from a batch."""
    random = np.random.default_rng(0)
    stores = [make(tmp_path / f"{i}.h5", i, 5) for i in range(3)]
    ids = [[f"clip-{i}" for i in random.permutation(CLIPS)[:n]] for n in (4, 9, 2)]
    mixture = open_mixture(stores, ids, torch.device("cpu"))
    assert isinstance(mixture, MixtureBank) and len(mixture) == 15 * VIEWS
    banks = [
        FeatureBank(s, device_bytes=0, ram_bytes=0, ids=own)
        for s, own in zip(stores, ids, strict=True)
    ]
    entries = [bank.entry(clip, view) for bank in banks for clip in range(len(bank.ids))
               for view in range(VIEWS)]  # fmt: skip
    assert mixture.lengths.tolist() == [len(entry) for entry in entries]
    for size in (1, 2, 40):
        wanted = torch.from_numpy(random.integers(0, len(entries), size))
        starts = (mixture.lengths[wanted] * 0.3).long()
        crop = Crop(starts, mixture.lengths[wanted] - starts)
        for given, begins in ((None, [0] * size), (crop, starts.tolist())):
            found = mixture.batch(wanted, given)
            items = [entries[e][s:] for e, s in zip(wanted.tolist(), begins, strict=True)]
            assert torch.equal(found.values, torch.nn.utils.rnn.pad_sequence(items, True))
            assert found.lengths.tolist() == [len(item) for item in items]
    alone = open_mixture(stores[:1], ids[:1], torch.device("cpu"))
    assert isinstance(alone, FeatureBank)


def test_a_mixture_is_of_one_kind(tmp_path: Path) -> None:
    stores = [make(tmp_path / "a.h5", 1, 5), make(tmp_path / "b.h5", 2, 6)]
    with pytest.raises(EarwitnessError, match=r"b.h5: width, frame .* \(6, 0.01, 3\)") as raised:
        open_mixture(stores, [["clip-1"], ["clip-1"]], torch.device("cpu"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("frames", [1, 30, 1000])
def test_batches_of_like_length(frames: int) -> None:
    lengths = torch.from_numpy(np.random.default_rng(3).integers(0, 25, 57))
    batches = length_batches(lengths, frames)
    assert torch.cat(batches).sort().values.tolist() == list(range(57))
    assert torch.equal(lengths[torch.cat(batches)], lengths.sort(descending=True).values)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * int(lengths[batch].max()) <= frames
    assert length_batches(lengths[:0], frames) == []

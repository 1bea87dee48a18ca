"""Features in one flat tensor, of which a training step gathers its batch.

By its size the tensor is on the GPU, else in RAM, else it is the memory-mapped file itself, or its
several files. Values of int8 stay int8 there; a batch is made float16 where it goes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import ranks
from pipeline.errors import EarwitnessError
from pipeline.features.frames import FilePart
from pipeline.features.rows import FrameRows, restored_bits
from pipeline.features.store import FeatureStore
from pipeline.features.store_parts import MAKE_ANEW
from pipeline.tensors import Padded

Place = Literal["device", "ram", "mapped"]


class Crop(NamedTuple):
    """A part of each entry of a batch, in frames; on the CPU."""

    start: Tensor  # (B,) int64
    length: Tensor  # (B,) int64


class FeatureBank:
    """Entries of a feature store as padded batches, each by one vectorised gather.

    Entry ``clip * views + view`` of the bank is a view of its clip, as in the store; with ``ids``
    the clips are those, in that order.

    Args:
        store: the file.
        device: where batches go.
        device_bytes: of the GPU's memory that the bank may take.
        ram_bytes: of RAM that it may take otherwise; a larger bank stays memory-mapped.
        ids: the clips to hold; all by default.
        dtype: of the batches' values.

    Raises:
        EarwitnessError: an id is not in the store.
    """

    def __init__(
        self,
        store: FeatureStore,
        device: torch.device | str = "cpu",
        *,
        device_bytes: int,
        ram_bytes: int,
        ids: Sequence[str] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self.views = store.views
        self.width = store.width
        self.ids = store.ids if ids is None else tuple(ids)
        entries = _entries(store, self.ids)
        # on the CPU, where a batch needs its longest entry without waiting for the GPU
        self.lengths = torch.from_numpy(store.lengths[entries])  # (entries,) int64
        size = int(self.lengths.sum()) * store.values.frame_bytes
        self.place = choose_place(size, self.device, device_bytes, ram_bytes)
        if self.place == "mapped":
            self._frames = FrameRows(store.values.parts, store.values.per_file)
            self._starts = torch.from_numpy(store.offsets[entries])
        else:
            self._frames = _resident(store, entries)
            self._starts = self.lengths.cumsum(0) - self.lengths
        if self.place == "device":
            self._frames.to(self.device)

    def __len__(self) -> int:
        """Entries: clips × views."""
        return len(self.lengths)

    def batch(self, entries: Tensor, crop: Crop | None = None) -> Padded:
        """The entries, padded with zeros to the longest of them.

        Args:
            entries: (B,) int64 on the CPU, so that no step waits for the GPU.
            crop: the part of each entry to gather; by default all of it.

        Returns:
            (B, T, D) values of the bank's dtype and (B,) lengths, on the bank's device.
        """
        lengths, starts = self.lengths[entries], self._starts[entries]
        if crop is not None:
            if bool(((crop.start < 0) | (crop.start + crop.length > lengths)).any()):
                raise ValueError("a crop goes beyond its entry")
            lengths, starts = crop.length, starts + crop.start
        rows, valid = padded_rows(starts, lengths)
        values = self._gather(rows)
        if len(padding := (~valid).flatten().nonzero()[:, 0]):
            values.index_fill_(0, self._moved(padding), 0)
        values = values.view(torch.float16).view(*valid.shape, self.width)
        return Padded(values.to(self.dtype), self._moved(lengths))

    def entry(self, clip: int, view: int = 0) -> Tensor:
        """(T, D) of the bank's dtype on its device: one view of one clip."""
        if not (0 <= clip < len(self.ids) and 0 <= view < self.views):
            raise IndexError(f"no clip {clip} with view {view}")
        return self.batch(torch.tensor([clip * self.views + view])).values[0]

    def _gather(self, rows: Tensor) -> Tensor:
        """(rows, D) on the device, as the bits of float16."""
        if self.place == "device":
            values, scales = self._frames.gather(self._moved(rows))
        else:
            found, own = self._frames.gather(rows)
            values, scales = self._moved(found), None if own is None else self._moved(own)
        return values if scales is None else restored_bits(values, scales)

    def _moved(self, tensor: Tensor) -> Tensor:
        return moved(tensor, self.device)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on ``device``; the CPU does not wait for a GPU."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def open_banks(
    stores: Sequence[FeatureStore], ids: Sequence[str], device: torch.device | str
) -> list[FeatureBank]:
    """A bank for each store; a store that occurs several times is held once.

    In a store of captions, a clip's id means its first caption.
    """
    banks: dict[Path, FeatureBank] = {}
    for store in stores:
        if store.path not in banks:
            on_device, in_ram = free_budgets(device)
            banks[store.path] = FeatureBank(
                store, device, device_bytes=on_device, ram_bytes=in_ram, ids=store.names(ids)
            )
    return [banks[store.path] for store in stores]


def padded_rows(starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows of a flat tensor make a padded batch.

    Args:
        starts: (B,) int64, each sequence's first row.
        lengths: (B,) int64.

    Returns:
        (B × T,) int64 rows, and (B, T) bool, false at padding.
    """
    steps = torch.arange(int(lengths.max()) if len(lengths) else 0)
    valid = steps < lengths[:, None]
    return torch.where(valid, starts[:, None] + steps, 0).flatten(), valid


def length_batches(lengths: Tensor, frames: int) -> list[Tensor]:
    """Batches of sequences of similar length, longest first: too little memory shows at once.

    Args:
        lengths: (N,) int64.
        frames: of a batch, padding included, at most; a longer sequence is a batch of its own.

    Returns:
        (n,) int64 indices of each batch; every sequence is in one.
    """
    order = lengths.argsort(descending=True, stable=True)
    sizes: list[int] = []
    at = 0
    while at < len(order):
        sizes.append(max(1, frames // max(1, int(lengths[order[at]]))))
        at += sizes[-1]
    if sizes:
        sizes[-1] -= at - len(order)
    return list(order.split(sizes)) if sizes else []


def choose_place(size: int, device: torch.device, device_bytes: int, ram_bytes: int) -> Place:
    """Where ``size`` bytes of values lie, within the given budgets."""
    if device.type != "cpu" and size <= device_bytes:
        return "device"
    return "ram" if size <= ram_bytes else "mapped"


def free_budgets(device: torch.device | str, share: float = 0.5) -> tuple[int, int]:
    """``share`` of the free bytes, of the device and of the RAM, which ranks divide."""
    device = torch.device(device)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    ram = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(free * share), int(ram * share) // ranks.here()


def _entries(store: FeatureStore, ids: Sequence[str]) -> NDArray[np.int64]:
    """(len(ids) * views,) entries of the store."""
    position = {name: clip for clip, name in enumerate(store.ids)}
    if missing := next((name for name in ids if name not in position), None):
        raise EarwitnessError(f"{store.path}: no features of {missing!r}; {MAKE_ANEW}")
    clips = np.array([position[name] for name in ids], dtype=np.int64)
    return (clips[:, None] * store.views + np.arange(store.views)).reshape(-1)


def _resident(store: FeatureStore, entries: NDArray[np.int64]) -> FrameRows:
    """The entries' frames, one after another, in RAM."""
    lengths = store.lengths[entries]
    if np.array_equal(entries, np.arange(len(store.lengths))):
        values, scales = store.values.raw(slice(None))
        # of a single file it is the file itself so far
        copy = (
            np.require(values, requirements=("O", "W")),
            scales if scales is None else np.array(scales),
        )
        return FrameRows([FilePart(*copy)], max(1, len(values)))
    ends = np.cumsum(lengths)
    rows = np.arange(ends[-1] if len(ends) else 0)
    rows += np.repeat(store.offsets[entries] - (ends - lengths), lengths)
    return FrameRows([store.values.raw(rows)], max(1, len(rows)))

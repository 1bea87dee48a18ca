"""The features of several datasets as one bank, to train on all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.errors import EarwitnessError
from pipeline.features.bank import Crop, FeatureBank, moved, open_banks
from pipeline.features.store import FeatureStore
from pipeline.tensors import Padded


class MixtureBank:
    """Banks of one width, concatenated: the entries of the first, then those of the second …

    Attributes:
        lengths: (entries,) int64 on the CPU, frames of each entry.
    """

    def __init__(self, banks: Sequence[FeatureBank]) -> None:
        first = banks[0]
        if any(
            (b.width, b.views, b.dtype) != (first.width, first.views, first.dtype) for b in banks
        ):
            raise ValueError("banks of different widths, views or dtypes")
        self.banks = tuple(banks)
        self.width, self.views, self.dtype = first.width, first.views, first.dtype
        self.device = first.device
        self.lengths = torch.cat([bank.lengths for bank in banks])
        self._ends = torch.tensor([len(bank) for bank in banks]).cumsum(0)

    def __len__(self) -> int:
        """Entries: clips × views."""
        return len(self.lengths)

    def batch(self, entries: Tensor, crop: Crop | None = None) -> Padded:
        """As :meth:`FeatureBank.batch`: one gather for each of the banks."""
        part = torch.searchsorted(self._ends, entries, right=True)  # (B,)
        lengths = self.lengths[entries] if crop is None else crop.length
        shape = (len(entries), int(lengths.max()) if len(lengths) else 0, self.width)
        values = torch.zeros(shape, dtype=self.dtype, device=self.device)
        for number, bank in enumerate(self.banks):
            rows = (part == number).nonzero()[:, 0]
            if len(rows):
                padded = bank.batch(
                    entries[rows] - (self._ends[number] - len(bank)),
                    None if crop is None else Crop(crop.start[rows], crop.length[rows]),
                )
                places = moved(rows, self.device)
                values[:, : padded.values.shape[1]].index_copy_(0, places, padded.values)
        return Padded(values, moved(lengths, self.device))


AnyBank = FeatureBank | MixtureBank


def open_mixture(
    stores: Sequence[FeatureStore], ids: Sequence[Sequence[str]], device: torch.device
) -> AnyBank:
    """One bank of the chosen clips of each dataset's store, dataset by dataset.

    Raises:
        EarwitnessError: the stores' features differ in kind, or a clip is in no store.
    """
    for store in stores[1:]:
        kind, first = _kind(store), _kind(stores[0])
        if kind != first:
            raise EarwitnessError(
                f"{store.path}: width, frame period and views are {kind}, those of "
                f"{stores[0].path} are {first}; make both with the same encoder"
            )
    banks = [open_banks([s], names, device)[0] for s, names in zip(stores, ids, strict=True)]
    return banks[0] if len(banks) == 1 else MixtureBank(banks)


def _kind(store: FeatureStore) -> tuple[int, float, int]:
    return store.width, store.header.frame_seconds, store.views

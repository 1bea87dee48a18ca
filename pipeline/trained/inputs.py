"""What one side of a retriever embeds, in batches of similar length: N clips, or N captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.features.bank import length_batches, moved
from pipeline.features.mixture import AnyBank
from pipeline.tensors import Padded, Tokens, pad_arrays, pad_tokens

# embedded together, padding included
BATCH_FRAMES = {"cpu": 1 << 14, "cuda": 1 << 17}
BATCH_TOKENS = {"cpu": 1 << 12, "cuda": 1 << 16}

Array = NDArray[Any]


class Embeddable(Protocol):
    """N clips or captions, as batches on a device."""

    def batches(self, kind: str | None = None) -> list[Tensor]:
        """(n,) int64 entries each: every entry once, those of similar length together.

        Args:
            kind: of the device that computes them, as torch names it; None: of the batches' own.
        """

    def batch(self, entries: Tensor) -> Any:
        """What the bi-encoder reads of (B,) int64 entries. These are on the CPU."""


class StoredInputs:
    """The clean view of every clip, or every caption, of E banks of stored features."""

    def __init__(self, banks: Sequence[AnyBank]) -> None:
        self._banks = tuple(banks)
        self._lengths = torch.stack([bank.lengths[:: bank.views] for bank in banks]).amax(0)

    def batches(self, kind: str | None = None) -> list[Tensor]:
        return frame_batches(self._lengths, kind or self._banks[0].device.type)

    def batch(self, entries: Tensor) -> tuple[Padded, ...]:
        """E × (B, T, W)."""
        return tuple(bank.batch(entries * bank.views) for bank in self._banks)


class ArrayInputs:
    """Features that are not stored: E lists of N arrays (T, W)."""

    def __init__(self, features: Sequence[Sequence[Array]], device: torch.device) -> None:
        self._features, self._device = features, device
        lengths = [[len(array) for array in arrays] for arrays in features]
        self._lengths = torch.tensor(lengths, dtype=torch.int64).amax(0)

    def batches(self, kind: str | None = None) -> list[Tensor]:
        return frame_batches(self._lengths, kind or self._device.type)

    def batch(self, entries: Tensor) -> tuple[Padded, ...]:
        """E × (B, T, W)."""
        rows = entries.tolist()
        return tuple(
            pad_arrays([each[row] for row in rows], self._device) for each in self._features
        )


class TokenTable:
    """All captions' tokens on the device; a batch is a gather.

    Args:
        rows: N lists of ids. pad: fills the shorter ones.
    """

    def __init__(self, rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> None:
        tokens, self.lengths = pad_tokens(rows, pad)  # (N, L), (N,)
        self._tokens, self._device = tokens.to(device), device

    def batches(self, kind: str | None = None) -> list[Tensor]:
        most = BATCH_TOKENS.get(kind or self._device.type, BATCH_TOKENS["cpu"])
        return length_batches(self.lengths, most)

    def batch(self, entries: Tensor) -> Tokens:
        """(B, L), with L the longest of them."""
        lengths = self.lengths[entries]
        ids = self._tokens[moved(entries, self._device), : int(lengths.max())]
        return Tokens(ids, moved(lengths, self._device))


def frame_batches(lengths: Tensor, kind: str) -> list[Tensor]:
    """Entries of (N,) ``lengths`` frames that go through a model together, on a kind of device."""
    return length_batches(lengths, BATCH_FRAMES.get(kind, BATCH_FRAMES["cpu"]))

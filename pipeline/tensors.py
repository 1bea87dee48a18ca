"""What models read: padded features and token ids. Nothing here knows of files or DVC.

Shapes, everywhere: B clips, K beams, T frames, L tokens, D width, V vocabulary, E encoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor


class Padded(NamedTuple):
    """Sequences of one width, padded to the longest."""

    values: Tensor  # (B, T, D) float
    lengths: Tensor  # (B,) int64, valid frames

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, true where a frame is valid."""
        frames = torch.arange(self.values.shape[1], device=self.values.device)
        return frames < self.lengths[:, None]

    def to(self, device: torch.device | str) -> Padded:
        return Padded(
            self.values.to(device, non_blocking=True), self.lengths.to(device, non_blocking=True)
        )


class Tokens(NamedTuple):
    """Captions as a text tower reads them."""

    ids: Tensor  # (B, L) int64, padded
    lengths: Tensor  # (B,) int64

    def to(self, device: torch.device | str) -> Tokens:
        return Tokens(self.ids.to(device), self.lengths.to(device))


class Batch(NamedTuple):
    """One training batch."""

    features: tuple[Padded, ...]  # E × (B, T, D)
    tokens: Tensor  # (B, L) int64: begin … end, then padding
    text: Padded | None  # (B, L', D') stored text features of the same captions, for the twin
    clips: Tensor  # (B,) int64, the clip's index: captions of one clip share it
    whole: int = 0  # rows of the batch whose part this is; 0: this is all (pipeline/ranks.py)


class Memory(NamedTuple):
    """What a decoder attends to."""

    values: Tensor  # (B, T, D)
    mask: Tensor  # (B, T) bool, true where valid


class TokenIds(NamedTuple):
    """What a model needs to know of a tokenizer."""

    size: int  # V
    begin: int
    pad: int
    end: int


class Bank(Protocol):
    """Stored features, as :class:`pipeline.features.bank.FeatureBank` gives them."""

    views: int  # a clip, the clean one included

    def __len__(self) -> int:
        """Entries: clips × views."""

    def batch(self, entries: Tensor) -> Padded:
        """(B,) int64 entries, ``clip * views + view``, as (B, T, D)."""


def pad_tokens(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Lists of ids as one (N, L) int64 tensor, padded, and their (N,) lengths."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    flat = torch.tensor([token for row in rows for token in row], dtype=torch.int64)
    tokens = torch.full((len(rows), max(map(len, rows), default=0)), pad)
    tokens[torch.arange(tokens.shape[1]) < lengths[:, None]] = flat
    return tokens, lengths


def pad_arrays(entries: Sequence[NDArray[Any]], device: torch.device) -> Padded:
    """(T, W) arrays → (B, T, W) float32 on ``device``."""
    values = [torch.from_numpy(entry).float() for entry in entries]
    lengths = torch.tensor([len(entry) for entry in entries])
    padded = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
    return Padded(padded, lengths).to(device)

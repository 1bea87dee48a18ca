"""Captions as a retriever's text side reads them: tokens, or stored features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.features.bank import length_batches, moved
from pipeline.features.mixture import AnyBank
from pipeline.models.biencoder import Tokens
from pipeline.tensors import pad_tokens

BATCH_TOKENS = {"cpu": 1 << 12, "cuda": 1 << 16}  # of captions that are embedded together


class TokenTable:
    """All captions' tokens on the device; a batch is a gather.

    Args:
        rows: N lists of ids. pad: fills the shorter ones.
    """

    def __init__(self, rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> None:
        tokens, self.lengths = pad_tokens(rows, pad)  # (N, L), (N,)
        self._tokens, self._device = tokens.to(device), device

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, captions: Tensor) -> Tokens:
        """Captions (B,) int64 of the CPU, as long as the longest of them."""
        lengths = self.lengths[captions]
        ids = self._tokens[moved(captions, self._device), : int(lengths.max())]
        return Tokens(ids, moved(lengths, self._device))

    def batches(self) -> list[Tensor]:
        """All captions in batches of like length."""
        return length_batches(
            self.lengths, BATCH_TOKENS.get(self._device.type, BATCH_TOKENS["cpu"])
        )


Texts = TokenTable | AnyBank  # of a text tower, or stored; caption n is entry n

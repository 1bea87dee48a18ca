"""Which tokens a hypothesis may not take next."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLOCKED = float("-inf")


class Rules(NamedTuple):
    """Lengths are in tokens between ``begin`` and ``end``, neither counted."""

    begin: int  # never chosen, nor is pad
    pad: int
    end: int
    min_length: int = 0  # no end before it
    max_length: int = 40  # nothing but the end after it
    no_repeat_ngram: int = 0  # no n-gram of this size twice; 0: off

    def apply(self, log_probs: Tensor, history: Tensor) -> Tensor:
        """Sets ``log_probs`` (B, K, V) to −inf, in place, where a token may not follow.

        The others are not renormalised: they stay the model's.

        Args:
            history: (B, K, L) int64, ``begin`` and the tokens so far.
        """
        written = history[..., 1:]
        length = written.shape[-1]
        if length >= self.max_length:
            ending = log_probs[..., self.end].clone()
            log_probs.fill_(BLOCKED)
            log_probs[..., self.end] = ending
            return log_probs
        log_probs[..., self.begin] = BLOCKED
        log_probs[..., self.pad] = BLOCKED
        if length < self.min_length:
            log_probs[..., self.end] = BLOCKED
        if 0 < self.no_repeat_ngram <= length:
            self._block_ngrams(log_probs, written)
        return log_probs

    def empty(self, rows: Tensor, beams: int) -> Tensor:
        """(B, K, L) int64: ``begin``, then padding up to the greatest length; ``rows``: (B,)."""
        shape = (len(rows), beams, self.max_length + 2)
        tokens = torch.full(shape, self.pad, dtype=torch.int64, device=rows.device)
        tokens[:, :, 0] = self.begin
        return tokens

    def _block_ngrams(self, log_probs: Tensor, written: Tensor) -> None:
        """Blocks each token that would repeat an n-gram: those that followed the newest n − 1."""
        size = self.no_repeat_ngram
        ngrams = written.unfold(-1, size, 1)  # (B, K, L − n + 1, n)
        newest = written[..., written.shape[-1] - size + 1 :]  # (B, K, n − 1)
        seen = (ngrams[..., :-1] == newest[..., None, :]).all(-1)  # (B, K, L − n + 1)
        penalty = log_probs.new_zeros(seen.shape).masked_fill_(seen, BLOCKED)
        log_probs.scatter_add_(-1, ngrams[..., -1], penalty)  # added, as a token may occur twice

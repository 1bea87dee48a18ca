"""Greedy decoding and sampling: hypotheses that are independent of each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.decoding.rules import Rules

Choose = Callable[[Tensor, Tensor, int], Tensor]


class Chains:
    """K independent hypotheses of each clip still in the batch.

    Attributes:
        rows: (B,) int64, each clip's row in the whole batch.
        tokens: (B, K, L) int64; log_probs: (B, K) float32.
        done: (B,) bool.
    """

    def __init__(self, rules: Rules, rows: Tensor, beams: int, choose: Choose) -> None:
        """``choose``: (B, K, V) log-probabilities, (B,) rows and the step to (B, K) tokens."""
        self.rules = rules
        self.choose = choose
        self.rows = rows
        self.tokens = rules.empty(rows, beams)
        self.log_probs = torch.zeros(len(rows), beams, device=rows.device)
        self.ended = torch.zeros(len(rows), beams, dtype=torch.bool, device=rows.device)

    @property
    def done(self) -> Tensor:
        return self.ended.all(-1)

    def advance(self, log_probs: Tensor, step: int) -> None:
        """Chooses each hypothesis' token at position ``step`` by (B, K, V) log-probabilities."""
        chosen = self.choose(log_probs, self.rows, step)
        gained = log_probs.gather(-1, chosen[..., None])[..., 0]
        self.tokens[:, :, step] = chosen.masked_fill(self.ended, self.rules.pad)
        self.log_probs = self.log_probs + gained.masked_fill(self.ended, 0)
        self.ended = self.ended | (chosen == self.rules.end)

    def select(self, clips: Tensor) -> None:
        """Keeps only ``clips`` (B',)."""
        self.rows = self.rows[clips]
        self.tokens = self.tokens[clips]
        self.log_probs = self.log_probs[clips]
        self.ended = self.ended[clips]

    def finished(self) -> tuple[Tensor, Tensor]:
        """(B, K, L) tokens and (B, K) log-probabilities."""
        return self.tokens, self.log_probs

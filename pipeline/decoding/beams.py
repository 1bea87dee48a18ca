"""Beam search: the live and the finished hypotheses of every clip."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.decoding.rules import BLOCKED, Rules


class Beams:
    """K live and K finished hypotheses of each clip still in the batch.

    Attributes:
        rows: (B,) int64, each clip's row in the whole batch.
        tokens: (B, K, L) int64, of the live ones; log_probs: (B, K) float32, best first.
        done: (B,) bool; then the finished hypotheses of a clip no longer change.
    """

    def __init__(
        self,
        rules: Rules,
        rows: Tensor,
        beams: int,
        length_penalty: float,
        exact_stop: bool,
        early_stopping: bool,
    ) -> None:
        self.rules = rules
        self.rows = rows
        self.length_penalty = length_penalty
        self.exact_stop = exact_stop
        self.early_stopping = early_stopping
        self.tokens = rules.empty(rows, beams)
        self.log_probs = torch.full((len(rows), beams), BLOCKED, device=rows.device)
        self.ended_tokens = self.tokens.clone()
        self.ended_log_probs = self.log_probs.clone()
        self.ended_scores = self.log_probs.clone()
        self.log_probs[:, 0] = 0  # before the first token all K are the same
        self.done = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)

    def advance(self, log_probs: Tensor, step: int) -> Tensor:
        """Chooses the token at position ``step`` of each hypothesis by (B, K, V) log-probabilities.

        Returns:
            (B, K) int64, the live hypothesis that each new live one continues.
        """
        beams, vocabulary = log_probs.shape[1:]
        totals = (self.log_probs[..., None] + log_probs).flatten(1)
        totals, order = totals.topk(2 * beams, -1)  # (B, 2K): at most K of them end
        parents, chosen = order // vocabulary, order % vocabulary
        ends = chosen == self.rules.end
        tokens = _gather(self.tokens, parents)
        tokens[:, :, step] = chosen
        self._finish(tokens, totals, ends, step)
        self.log_probs, kept = totals.masked_fill(ends, BLOCKED).topk(beams, -1)
        self.tokens = _gather(tokens, kept)
        self._stop(step)
        return parents.gather(-1, kept)

    def _finish(self, tokens: Tensor, totals: Tensor, ends: Tensor, step: int) -> None:
        """Adds those of the best K of the (B, 2K) continuations that end to the finished ones."""
        beams = self.log_probs.shape[1]
        allowed = ends & ~self.done[:, None]
        allowed[:, beams:] = False
        totals = totals.masked_fill(~allowed, BLOCKED)
        scores = torch.cat((self.ended_scores, totals / step**self.length_penalty), 1)
        self.ended_scores, kept = scores.topk(beams, -1)
        self.ended_tokens = _gather(torch.cat((self.ended_tokens, tokens), 1), kept)
        self.ended_log_probs = torch.cat((self.ended_log_probs, totals), 1).gather(-1, kept)

    def _stop(self, step: int) -> None:
        """Marks the clips none of whose live hypotheses can become better than the finished ones.

        The best live one is judged by its present log-probability, which can only fall, and its
        present length; with ``exact_stop`` and a positive penalty by the greatest length, whose
        score is the highest. With ``early_stopping``, those too that have K finished ones.
        """
        longest = self.exact_stop and self.length_penalty > 0
        length = self.rules.max_length + 1 if longest else step
        best = self.log_probs[:, 0] / length**self.length_penalty
        worst = self.ended_scores[:, -1]  # −inf where fewer than K have finished
        self.done = self.done | (best <= worst)
        if self.early_stopping:
            self.done = self.done | (worst > BLOCKED)

    def select(self, clips: Tensor) -> None:
        """Keeps only ``clips`` (B',)."""
        self.rows = self.rows[clips]
        self.tokens = self.tokens[clips]
        self.log_probs = self.log_probs[clips]
        self.ended_tokens = self.ended_tokens[clips]
        self.ended_log_probs = self.ended_log_probs[clips]
        self.ended_scores = self.ended_scores[clips]
        self.done = self.done[clips]

    def finished(self) -> tuple[Tensor, Tensor]:
        """(B, K, L) tokens and (B, K) log-probabilities; −inf where there are fewer than K."""
        return self.ended_tokens, self.ended_log_probs


def _gather(tokens: Tensor, hypotheses: Tensor) -> Tensor:
    """(B, K, L) tokens and (B, K') indices of hypotheses to (B, K', L)."""
    index = hypotheses[..., None].expand(-1, -1, tokens.shape[-1])
    return tokens.gather(1, index)

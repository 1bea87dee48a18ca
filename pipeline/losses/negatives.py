"""Negative captions and sounds for losses of triplets (CMU 5.2; the baseline's impostors)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pipeline import ranks

Kind = Literal["random", "hardest"]


class Negatives(NamedTuple):
    """Of each of B pairs; never of the same clip."""

    text: Tensor  # (B,) int64, the negative caption of each sound
    sound: Tensor  # (B,) int64, the negative sound of each caption
    valid: Tensor  # (B,) bool, false where the batch has no other clip


@torch.no_grad()
def draw_negatives(similarity: Tensor, clips: Tensor, kind: Kind) -> Negatives:
    """A negative caption and a negative sound for every pair of a batch.

    Args:
        similarity: (B, B), sounds by captions; ``random`` uses its size only.
        clips: (B,) int64, the clip of each pair.
        kind: ``random`` draws uniformly from the other clips' pairs, by torch's generator of the
            device; ``hardest`` takes the most similar.
    """
    same = clips[:, None] == clips
    if kind == "random":
        rank = torch.rand(2, *same.shape, device=clips.device)
    else:
        rank = torch.stack([similarity.float(), similarity.float().T])
    text, sound = ranks.drawn(rank.masked_fill(same, -torch.inf).argmax(-1))
    return Negatives(text, sound, ~same.all(-1))


def mean_valid(values: Tensor, valid: Tensor) -> Tensor:
    """() the mean of (B,) values over the pairs that have negatives; 0 where none has."""
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)

"""Who stands in for the right caption or the right sound, in losses of triplets (CMU 5.2)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Kind = Literal["random", "hardest"]


class Impostors(NamedTuple):
    """Of each of B pairs; never of the same clip."""

    text: Tensor  # (B,) int64, the caption that stands in beside its sound
    sound: Tensor  # (B,) int64, the sound that stands in beside its caption
    there: Tensor  # (B,) bool, false where the batch has no other clip


@torch.no_grad()
def draw_impostors(similarity: Tensor, clips: Tensor, kind: Kind) -> Impostors:
    """One impostor a side for every pair of a batch.

    Args:
        similarity: (B, B), sounds by captions; of ``random`` no more than its size is used.
        clips: (B,) int64, the clip of each pair.
        kind: ``random`` draws each of the other clips' pairs alike, from torch's generator of the
            device; ``hardest`` takes the most similar.
    """
    same = clips[:, None] == clips
    if kind == "random":
        rank = torch.rand(2, *same.shape, device=clips.device)
    else:
        rank = torch.stack([similarity.float(), similarity.float().T])
    text, sound = rank.masked_fill(same, -torch.inf).argmax(-1)
    return Impostors(text, sound, ~same.all(-1))


def mean_there(values: Tensor, there: Tensor) -> Tensor:
    """() the mean of (B,) values over the pairs that have impostors; 0 where none has."""
    return torch.where(there, values, 0).sum() / there.sum().clamp(min=1)

"""The gap between sound and text embeddings of one space, measured on stored ones (WSAC 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.errors import EarwitnessError
from pipeline.models.layers.pooling import unit
from pipeline.tensors import Bank

CLIPS = 50  # WSAC 3.1.1
BLOCK = 4096  # embeddings that are read at once


def gap(sound: Bank, text: Bank) -> Tensor:
    """(W,) float32: the sound's mean unit embedding less the captions' (WSAC eq. 2)."""
    return centre(sound) - centre(text)


def centre(bank: Bank) -> Tensor:
    """(W,) float32: the mean of all clean unit embeddings, in float64 over blocks."""
    entries = torch.arange(0, len(bank), bank.views)
    sums = [unit(bank.batch(rows)).double().sum(0) for rows in entries.split(BLOCK)]
    return (torch.stack(sums).sum(0) / len(entries)).float()


def spread(text: Bank, captions: Tensor, clips: int = CLIPS) -> float:
    """σ: the mean L∞ distance of two captions of one clip, over every pair of ``clips`` clips.

    Args:
        text: entry n is caption n, clip by clip.
        captions: (clips,) int64, how many captions each clip has. Of the clips with several,
            ``clips`` are taken at equal distances.

    Raises:
        EarwitnessError: no clip has several captions.
    """
    several = (captions > 1).nonzero()[:, 0]
    if len(several) == 0:
        raise EarwitnessError(
            "prefix.noise: captions needs clips with several captions, and there are none; "
            "give σ as a number, such as 0.114"
        )
    count = min(clips, len(several))
    chosen = several[torch.arange(count) * len(several) // count]
    first = captions.cumsum(0) - captions
    means = []
    for clip in chosen.tolist():
        start = int(first[clip])
        rows = unit(text.batch(torch.arange(start, start + int(captions[clip]))))  # (n, W)
        distances = (rows[:, None] - rows).abs().amax(-1)  # (n, n)
        means.append(distances[torch.ones_like(distances, dtype=torch.bool).triu(1)].mean())
    return float(torch.stack(means).mean())

"""Sequences as one vector."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.tensors import Padded


def mean(padded: Padded) -> Tensor:
    """(B, T, W) → (B, W) float32, over the valid frames; zeros where there are none."""
    weights = padded.mask / padded.lengths.clamp(min=1)[:, None]  # (B, T)
    with torch.autocast(padded.values.device.type, enabled=False):
        return (weights[:, None] @ padded.values.float())[:, 0]


def unit(padded: Padded) -> Tensor:
    """(B, T, W) → (B, W) float32: the mean over the valid frames, scaled to length 1."""
    return F.normalize(mean(padded), dim=-1)

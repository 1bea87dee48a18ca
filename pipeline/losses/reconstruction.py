"""Reconstruction latent space similarity regularisation (RLSSR 3.3, eq. 1).

The mean decoder state of a caption, through a linear layer, should be near the CNN's pooled output:
``distance(A_rec, A_pooled)``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def pooled_sound(maps: Tensor, lengths: Tensor) -> Tensor:
    """A_pooled: mean plus maximum over frequency, then the mean over a clip's valid frames.

    The paper's "average max pooling … extracts the most prominent features", then "average global
    pooling" standardises the length. As the second is over time, the first must be over frequency.

    Args:
        maps: (B, D, T, M) of the CNN. lengths: (B,) int64, valid frames.

    Returns:
        (B, D).
    """
    frames = (maps.mean(3) + maps.amax(3)).transpose(1, 2)  # (B, T, D)
    valid = lengths.new_ones(frames.shape[1]).cumsum(0) <= lengths[:, None]
    return pooled_states(frames, valid)


def pooled_states(states: Tensor, valid: Tensor) -> Tensor:
    """The mean of each row's valid states.

    A_rec is a linear layer of it. Mean and linear layer commute, so the mean may come first.

    Args:
        states: (B, L, D). valid: (B, L) bool; a row without valid states gives zeros.

    Returns:
        (B, D) float32.
    """
    total = states.float().masked_fill(~valid[..., None], 0).sum(1)
    return total / valid.sum(1, keepdim=True).clamp(min=1)


def cosine_distance(reconstructed: Tensor, pooled: Tensor) -> Tensor:
    """The mean over clips of 1 − cosine."""
    return 1 - F.cosine_similarity(reconstructed, pooled, dim=-1).mean()


# (B, D), (B, D) → a scalar. l1, l2 and huber are means over D too, as torch has them: |d|, d², and
# d² / 2 up to 1, |d| − 1/2 beyond (Girshick 2015, eq. 3)
DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "cosine": cosine_distance,
    "huber": F.smooth_l1_loss,
}

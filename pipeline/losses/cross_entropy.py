"""The captioners' main loss (EDTC eq. 1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pipeline import ranks


def cross_entropy(logits: Tensor, tokens: Tensor, pad: int, label_smoothing: float = 0.0) -> Tensor:
    """Mean negative log-probability of the batch's tokens without padding.

    Args:
        logits: (B, L, V).
        tokens: (B, L) int64, the token that each position should predict.
        pad: the padding's id.
        label_smoothing: share of the target that is spread evenly over V (EDTC 4.3).

    Returns:
        a scalar.
    """
    loss = F.cross_entropy(
        logits.flatten(0, 1).float(),
        tokens.flatten(),
        ignore_index=pad,
        label_smoothing=label_smoothing,
    )
    return ranks.weighted(loss, (tokens != pad).sum()) if ranks.shared() else loss

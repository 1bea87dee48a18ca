"""Self-critical sequence training's loss (Rennie et al. 2017, eq. 8; SJTU 2.1).

Pure functions of hypotheses and their rewards; only log-probabilities have a gradient.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from pipeline import ranks

Baseline = Literal["greedy", "others"]


def token_log_probs(
    logits: Tensor, tokens: Tensor, *, begin: int, pad: int, temperature: float = 1.0
) -> Tensor:
    """Log-probability of each token under the distribution that a rollout samples from.

    That is the model's at ``temperature``, without ``begin`` and ``pad``.

    Args:
        logits: (N, L, V). tokens: (N, L) int64, sampled at each position; padding gives 0.

    Returns:
        (N, L) float32.
    """
    if temperature != 1:
        logits = logits / temperature
    never = logits.new_zeros(logits.shape[-1])
    never[begin] = never[pad] = float("-inf")
    losses = F.cross_entropy(
        (logits + never).flatten(0, 1).float(), tokens.flatten(), ignore_index=pad, reduction="none"
    )
    return -losses.view(tokens.shape)


def advantages(rewards: Tensor, baseline: Baseline) -> Tensor:
    """How much better each sample is than its clip's baseline.

    Args:
        rewards: (B, K). With ``greedy`` the last of each row is the greedy hypothesis' reward,
            which is the baseline; with ``others`` all are samples, and a sample's baseline is the
            mean of its clip's other samples, which does not depend on the sample.

    Returns:
        (B, S), S = K − 1 with ``greedy``, else K.
    """
    if baseline == "greedy":
        return rewards[:, :-1] - rewards[:, -1:]
    others = (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others


def self_critical_loss(log_probs: Tensor, chosen: Tensor, advantage: Tensor) -> Tensor:
    """−mean over the chosen tokens of advantage × log p.

    Args:
        log_probs: (B, S, L) of the samples' tokens.
        chosen: (B, S, L) bool, false at padding and at an end that was forced.
        advantage: (B, S); no gradient goes into it.

    Returns:
        a scalar.
    """
    gained = (log_probs * advantage.detach()[:, :, None]).masked_fill(~chosen, 0)
    number = chosen.sum()
    return ranks.weighted(-gained.sum() / number.clamp(min=1), number)

"""Drawing tokens: a clip's draws do not depend on the other clips of its batch.

The random numbers are a hash of (seed, clip, hypothesis, step), not a generator's, so they do not
depend on the batch, on finished clips that leave it, or on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_BITS = 52  # so that uniform × total stays below total in float64


def draw(
    log_probs: Tensor, uniform: Tensor, *, temperature: float = 1.0, top_p: float = 1.0
) -> Tensor:
    """One token of each distribution, by inverting the cumulative sum.

    Args:
        log_probs: (B, K, V); −inf is never drawn.
        uniform: (B, K) float64 in [0, 1).
        temperature: divides the log-probabilities.
        top_p: draws from the fewest likeliest tokens whose probabilities sum to at least it
            (nucleus sampling, Holtzman et al. 2020).

    Returns:
        (B, K) int64.
    """
    probs = (log_probs / temperature).softmax(-1).double()
    if top_p >= 1:
        return _invert(probs, uniform)
    probs, tokens = probs.sort(-1, descending=True)
    before = probs.cumsum(-1) - probs
    probs = probs.masked_fill(before >= top_p, 0)
    return tokens.gather(-1, _invert(probs, uniform)[..., None])[..., 0]


def uniforms(seed: int, clips: Tensor, hypotheses: int, step: int) -> Tensor:
    """(B, K) float64 in [0, 1), for ``clips`` (B,) int64 and K ``hypotheses`` at one step."""
    index = torch.arange(hypotheses, device=clips.device)
    counter = index * (1 << 32) + step
    hashed = _mix(_mix(clips + _signed((seed + 1) * _GOLDEN))[:, None] ^ counter)
    return ((hashed >> (64 - _BITS)) & ((1 << _BITS) - 1)).double() * 2.0**-_BITS


def _invert(probs: Tensor, uniform: Tensor) -> Tensor:
    """(B, K): the first index at which the cumulative sum exceeds ``uniform`` times the total."""
    cumulative = probs.cumsum(-1)
    bound = uniform[..., None] * cumulative[..., -1:]
    return torch.searchsorted(cumulative, bound, right=True)[..., 0]


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele et al. 2014), in wrapping int64 arithmetic."""
    x = x + _signed(_GOLDEN)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value

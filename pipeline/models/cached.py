"""What the cached steppers of Transformer decoders share: weights read once, and slots.

Hypotheses never move in the cache. Each step writes K slots a clip, and a bool (K, S) says which
slots are a hypothesis' own past, so that a reordering gathers that alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Affine(NamedTuple):
    """A linear layer's weight and bias."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)


class LayerCache(NamedTuple):
    """What one layer attends to. S slots: K for each step, d is the width of a head."""

    keys: Tensor  # (B, H, S, d)
    values: Tensor  # (B, H, S, d)
    memory_keys: Tensor  # (B, H, T, d)
    memory_values: Tensor  # (B, H, T, d)

    @classmethod
    def empty(cls, memory_keys: Tensor, memory_values: Tensor, slots: int) -> LayerCache:
        """No tokens yet, in S = ``slots``."""
        clips, heads, _, width = memory_keys.shape
        keys, values = (memory_keys.new_empty(clips, heads, slots, width) for _ in range(2))
        return cls(keys, values, memory_keys.contiguous(), memory_values.contiguous())

    def write(self, keys: Tensor, values: Tensor, used: int) -> tuple[Tensor, Tensor]:
        """Puts this step's (B, H, K, d) into the last of the ``used`` slots; gives all of those."""
        beams = keys.shape[2]
        self.keys[:, :, used - beams : used] = keys
        self.values[:, :, used - beams : used] = values
        return self.keys[:, :, :used], self.values[:, :, :used]

    def select(self, clips: Tensor, used: int) -> LayerCache:
        """Of ``clips`` alone; only the slots in use are copied."""
        return LayerCache(
            _rows(self.keys, clips, used),
            _rows(self.values, clips, used),
            self.memory_keys[clips],
            self.memory_values[clips],
        )


def with_own_slots(past: Tensor, steps: int, prefix: int = 0) -> Tensor:
    """(B, K, S) bool of a step more: each hypothesis' own new slot is its past from now on.

    Args:
        prefix: slots before the first step's, which all hypotheses share.
    """
    beams = past.shape[1]
    past = past.clone()
    own = torch.eye(beams, dtype=torch.bool, device=past.device)
    first = prefix + steps * beams
    past[:, :, first : first + beams] = own
    return past


def reordered(past: Tensor, parents: Tensor) -> Tensor:
    """(B, K, S) of the hypotheses that ``parents`` (B, K) are continued by."""
    return past.gather(1, parents[..., None].expand_as(past))


def product_dtype(weight: Tensor) -> torch.dtype:
    """Autocast's, where it is on: its cast of each weight in each step is then done once."""
    if torch.is_autocast_enabled(weight.device.type):
        return torch.get_autocast_dtype(weight.device.type)
    return weight.dtype


def affine(linear: nn.Linear, dtype: torch.dtype) -> Affine:
    return Affine(linear.weight.to(dtype), linear.bias.to(dtype))


def joined(heads: Tensor) -> Tensor:
    """(B, H, K, d) to (B, K, D)."""
    return heads.transpose(1, 2).flatten(2)


def _rows(cache: Tensor, clips: Tensor, used: int) -> Tensor:
    """Some clips of a cache (B, H, S, d), its first ``used`` slots filled."""
    kept = cache.new_empty(len(clips), *cache.shape[1:])
    kept[:, :, :used] = cache[:, :, :used][clips]
    return kept

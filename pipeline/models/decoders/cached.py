"""What the cached steppers of Transformer decoders share: weights read once, and slots.

Hypotheses never move in the cache. Each step writes K slots a clip, and a bool (K, S) says which
slots are a hypothesis' own past, so that a reordering gathers that alone. A query scores its clip's
other slots too, which is masked out: a few more products in place of a copy of the whole cache in
each step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

S = TypeVar("S", bound="CachedState")


class Affine(NamedTuple):
    """A linear layer's weight and bias, in the dtype that the products run in."""

    weight: Tensor  # (out, in)
    bias: Tensor | None  # (out,)

    def __call__(self, values: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return F.linear(values.to(self.weight.dtype), self.weight, self.bias)


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


@dataclass(frozen=True, kw_only=True)
class CachedState:
    """A step writes its keys and values into ``caches`` in place: a state is stepped once."""

    output: Affine  # (V, D)
    caches: tuple[LayerCache, ...]
    past: Tensor  # (B, K, S) bool: the slots that are each hypothesis' own past
    prefix: int = 0  # slots before the first step's, which all hypotheses share
    steps: int = 0  # taken so far

    @property
    def used(self) -> int:
        """Slots in use."""
        return self.prefix + self.steps * self.past.shape[1]

    @property
    def own(self) -> Tensor:
        """(B, 1, K, slots in use) bool: what each hypothesis attends to."""
        return self.past[:, None, :, : self.used]

    def stepped(self) -> Self:
        """Of one step more: each hypothesis' own new slot is its past from now on."""
        past, beams = self.past.clone(), self.past.shape[1]
        own = torch.eye(beams, dtype=torch.bool, device=past.device)
        past[:, :, self.used : self.used + beams] = own
        return replace(self, past=past, steps=self.steps + 1)

    def reorder(self, parents: Tensor) -> Self:
        """Whose hypothesis k of clip b continues ``parents[b, k]``; the caches stay as they are."""
        return replace(self, past=self.past.gather(1, parents[..., None].expand_as(self.past)))

    def select(self, clips: Tensor) -> Self:
        """Of ``clips`` alone; only the slots in use are copied."""
        caches = tuple(cache.select(clips, self.used) for cache in self.caches)
        return replace(self, caches=caches, past=self.past[clips])


class CachedStepper:
    """The half of a ``Stepper`` that is alike for all of them."""

    def reorder(self, state: S, parents: Tensor) -> S:
        """See :class:`Stepper`."""
        return state.reorder(parents)

    def select(self, state: S, clips: Tensor) -> S:
        """See :class:`Stepper`."""
        return state.select(clips)


def no_past(clips: int, beams: int, slots: int, device: torch.device) -> Tensor:
    """(B, K, S) bool before the first step."""
    return torch.zeros(clips, beams, slots, dtype=torch.bool, device=device)


def product_dtype(weight: Tensor) -> torch.dtype:
    """Autocast's, where it is on: its cast of each weight in each step is then done once."""
    if torch.is_autocast_enabled(weight.device.type):
        return torch.get_autocast_dtype(weight.device.type)
    return weight.dtype


def affine(linear: nn.Linear, dtype: torch.dtype) -> Affine:
    return Affine(linear.weight.to(dtype), linear.bias.to(dtype))


def _rows(cache: Tensor, clips: Tensor, used: int) -> Tensor:
    """Some clips of a cache (B, H, S, d), its first ``used`` slots filled."""
    kept = cache.new_empty(len(clips), *cache.shape[1:])
    kept[:, :, :used] = cache[:, :, :used][clips]
    return kept

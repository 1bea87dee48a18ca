"""Cached decoding steps of Transformer decoders.

Hypotheses never move in the cache. Each step writes K slots a clip, and a bool (K, S) says which
slots are the past of each hypothesis; to reorder hypotheses is to gather that mask. A query also
scores the other slots of its clip, which are masked out: a few more products instead of a copy of
the whole cache in each step.

Keys and values of the memory are computed once a clip; the K hypotheses are K queries to them.
Queries, keys and values of the past come from one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

S = TypeVar("S", bound="CachedState")
Step = Callable[[Tensor], Tensor]  # (B, K, D) → the same shape


class Affine(NamedTuple):
    """A linear layer's weight and bias, in the dtype of the products."""

    weight: Tensor  # (out, in)
    bias: Tensor | None  # (out,)

    def __call__(self, values: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return F.linear(values.to(self.weight.dtype), self.weight, self.bias)


class LayerCache(NamedTuple):
    """The keys and values of one layer, in S slots, K for each step; d is the width of a head."""

    keys: Tensor  # (B, H, S, d)
    values: Tensor  # (B, H, S, d)
    memory_keys: Tensor  # (B, H, T, d)
    memory_values: Tensor  # (B, H, T, d)

    @classmethod
    def empty(cls, memory_keys: Tensor, memory_values: Tensor, slots: int) -> LayerCache:
        """A cache of ``slots`` slots without tokens."""
        clips, heads, _, width = memory_keys.shape
        keys, values = (memory_keys.new_empty(clips, heads, slots, width) for _ in range(2))
        return cls(keys, values, memory_keys.contiguous(), memory_values.contiguous())

    def write(self, keys: Tensor, values: Tensor, used: int) -> tuple[Tensor, Tensor]:
        """Writes a step's (B, H, K, d) into the last of ``used`` slots; returns all of these."""
        beams = keys.shape[2]
        self.keys[:, :, used - beams : used] = keys
        self.values[:, :, used - beams : used] = values
        return self.keys[:, :, :used], self.values[:, :, :used]

    def select(self, clips: Tensor, used: int) -> LayerCache:
        """The cache of ``clips``; only slots in use are copied."""
        return LayerCache(
            _rows(self.keys, clips, used),
            _rows(self.values, clips, used),
            self.memory_keys[clips],
            self.memory_values[clips],
        )


@dataclass(frozen=True, kw_only=True)
class CachedState:
    """A step writes its keys and values into ``caches`` in place: each state allows one step."""

    output: Affine  # (V, D)
    caches: tuple[LayerCache, ...]
    past: Tensor  # (B, K, S) bool: the slots that are each hypothesis' past
    prefix: int = 0  # slots before the first step's, which all hypotheses share
    steps: int = 0  # done so far

    @property
    def used(self) -> int:
        """Slots in use."""
        return self.prefix + self.steps * self.past.shape[1]

    @property
    def mask(self) -> Tensor:
        """(B, 1, K, slots in use) bool: what each hypothesis attends to."""
        return self.past[:, None, :, : self.used]

    def stepped(self) -> Self:
        """The state after one more step: its new slot belongs to each hypothesis' past."""
        past, beams = self.past.clone(), self.past.shape[1]
        new = torch.eye(beams, dtype=torch.bool, device=past.device)
        past[:, :, self.used : self.used + beams] = new
        return replace(self, past=past, steps=self.steps + 1)

    def reorder(self, parents: Tensor) -> Self:
        """Hypothesis k of clip b continues ``parents[b, k]``; the caches do not change."""
        return replace(self, past=self.past.gather(1, parents[..., None].expand_as(self.past)))

    def select(self, clips: Tensor) -> Self:
        """The state of ``clips``; only slots in use are copied."""
        caches = tuple(cache.select(clips, self.used) for cache in self.caches)
        return replace(self, caches=caches, past=self.past[clips])


class CachedStepper:
    """The part of a ``Stepper`` that is the same for all of them."""

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
    """Autocast's where it is on, so that each weight is cast once and not in each step."""
    if torch.is_autocast_enabled(weight.device.type):
        return torch.get_autocast_dtype(weight.device.type)
    return weight.dtype


def affine(linear: nn.Linear, dtype: torch.dtype) -> Affine:
    return Affine(linear.weight.to(dtype), linear.bias.to(dtype))


def _rows(cache: Tensor, clips: Tensor, used: int) -> Tensor:
    """The rows of ``clips`` in a cache (B, H, S, d), with the first ``used`` slots copied."""
    kept = cache.new_empty(len(clips), *cache.shape[1:])
    kept[:, :, :used] = cache[:, :, :used][clips]
    return kept


class CachedLayer(NamedTuple):
    """The weights of one decoder layer, post-norm as in Vaswani et al. 2017."""

    heads: int
    qkv: Affine  # (3D, D)
    self_out: Affine
    self_norm: Step
    query: Affine
    cross_out: Affine
    cross_norm: Step
    up: Affine
    activation: Step
    down: Affine
    final_norm: Step

    def advance(
        self, hidden: Tensor, cache: LayerCache, mask: Tensor, memory_mask: Tensor
    ) -> Tensor:
        """(B, K, D) → the same; this step's keys and values go to the last K slots in use.

        Args:
            mask: (B, 1, K, slots in use) bool. memory_mask: (B, 1, 1, T) bool.
        """
        query, key, value = split_parts(self.qkv(hidden), 3, self.heads)
        keys, values = cache.write(key, value, mask.shape[-1])
        read = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        hidden = self.self_norm(hidden + self.self_out(join_heads(read)))
        (query,) = split_parts(self.query(hidden), 1, self.heads)
        read = F.scaled_dot_product_attention(
            query, cache.memory_keys, cache.memory_values, attn_mask=memory_mask
        )
        hidden = self.cross_norm(hidden + self.cross_out(join_heads(read)))
        return self.final_norm(hidden + self.down(self.activation(self.up(hidden))))


@dataclass(frozen=True, kw_only=True)
class AttentionState(CachedState):
    """The state of a decoder with a memory."""

    layers: tuple[CachedLayer, ...]
    memory_mask: Tensor  # (B, 1, 1, T) bool

    def select(self, clips: Tensor) -> Self:
        return replace(super().select(clips), memory_mask=self.memory_mask[clips])

    def advance(self, hidden: Tensor) -> tuple[Tensor, Self]:
        """(B, K, D) embedded tokens through all layers, and the state after them."""
        after = self.stepped()
        mask = after.mask
        for layer, cache in zip(self.layers, self.caches, strict=True):
            hidden = layer.advance(hidden, cache, mask, self.memory_mask)
        return hidden, after

    def log_probs(self, hidden: Tensor) -> Tensor:
        """(B, K, D) → (B, K, V) float32."""
        return self.output(hidden).float().log_softmax(-1)


def split_parts(values: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, L, parts · D) of one product → ``parts`` × (B, H, L, d)."""
    return values.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def join_heads(values: Tensor) -> Tensor:
    """(B, H, L, d) → (B, L, D)."""
    return values.transpose(1, 2).flatten(2)

"""Cached decoder layers that attend to their own past, then to a memory: post-norm, as Vaswani's.

Keys and values of the memory are computed once a clip, and the K hypotheses attend to them as K
queries of one clip; they are not copied K times. Queries, keys and values of the past come from one
matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from torch import Tensor
from torch.nn import functional as F

from pipeline.models.decoders.cached import Affine, CachedState, LayerCache

Step = Callable[[Tensor], Tensor]  # (B, K, D) → the same shape


class CachedLayer(NamedTuple):
    """One decoder layer's weights."""

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

    def advance(self, hidden: Tensor, cache: LayerCache, own: Tensor, shown: Tensor) -> Tensor:
        """(B, K, D) → the same; this step's keys and values go to the last K slots in use.

        Args:
            own: (B, 1, K, slots in use) bool. shown: (B, 1, 1, T) bool, of the memory.
        """
        query, key, value = split_parts(self.qkv(hidden), 3, self.heads)
        keys, values = cache.write(key, value, own.shape[-1])
        read = F.scaled_dot_product_attention(query, keys, values, attn_mask=own)
        hidden = self.self_norm(hidden + self.self_out(join_heads(read)))
        (query,) = split_parts(self.query(hidden), 1, self.heads)
        read = F.scaled_dot_product_attention(
            query, cache.memory_keys, cache.memory_values, attn_mask=shown
        )
        hidden = self.cross_norm(hidden + self.cross_out(join_heads(read)))
        return self.final_norm(hidden + self.down(self.activation(self.up(hidden))))


@dataclass(frozen=True, kw_only=True)
class AttentionState(CachedState):
    """Of a decoder with a memory."""

    layers: tuple[CachedLayer, ...]
    memory_mask: Tensor  # (B, 1, 1, T) bool

    def select(self, clips: Tensor) -> Self:
        return replace(super().select(clips), memory_mask=self.memory_mask[clips])

    def advance(self, hidden: Tensor) -> tuple[Tensor, Self]:
        """(B, K, D) embedded tokens through all layers, and the state after them."""
        after = self.stepped()
        own = after.own
        for layer, cache in zip(self.layers, self.caches, strict=True):
            hidden = layer.advance(hidden, cache, own, self.memory_mask)
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

"""Attention's H heads: apart, and together again."""

from __future__ import annotations

from torch import Tensor


def split_parts(values: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, L, parts · D) of one product → ``parts`` × (B, H, L, d)."""
    return values.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def join_heads(values: Tensor) -> Tensor:
    """(B, H, L, d) → (B, L, D)."""
    return values.transpose(1, 2).flatten(2)

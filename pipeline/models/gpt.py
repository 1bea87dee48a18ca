"""A GPT-style decoder (Radford et al. 2019): pre-norm, learned positions, tied output.

With the sizes of a GPT-2 it is GPT-2, and takes its weights.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import EarwitnessError
from pipeline.models.heads import join_heads, split_parts

POSITIONS = 512  # the longest prefix and caption that can be decoded, from scratch


class Sizes(NamedTuple):
    """What a decoder's form is made of."""

    vocabulary: int  # V
    positions: int
    layers: int
    heads: int
    width: int  # D


class Block(nn.Module):
    """One layer. H heads of width d."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.inner_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, L, D) → the same; each position reads those before it and itself."""
        query, keys, values = split_parts(self.qkv(self.attention_norm(hidden)), 3, self.heads)
        dropout = self.dropout if self.training else 0.0
        read = F.scaled_dot_product_attention(
            query, keys, values, is_causal=True, dropout_p=dropout
        )
        hidden = hidden + self._drop(self.out(join_heads(read)))
        inner = F.gelu(self.up(self.inner_norm(hidden)), approximate="tanh")
        return hidden + self._drop(self.down(inner))

    def _drop(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.dropout, self.training)


class Gpt(nn.Module):
    """Embeddings in, logits of the next token out.

    Raises:
        EarwitnessError: a width that the heads do not divide.
    """

    def __init__(self, sizes: Sizes, dropout: float) -> None:
        super().__init__()
        if sizes.width % sizes.heads:
            raise EarwitnessError(
                f"prefix.width {sizes.width} is not a multiple of prefix.heads {sizes.heads}; "
                "change one"
            )
        self.sizes, self.dropout = sizes, dropout
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.positions = nn.Embedding(sizes.positions, sizes.width)
        self.blocks = nn.ModuleList(
            Block(sizes.width, sizes.heads, dropout) for _ in range(sizes.layers)
        )
        self.norm = nn.LayerNorm(sizes.width)
        self._initialise()

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, S, D) embedded inputs, the first at position 0 → (B, S, D) last states."""
        self.check_length(inputs.shape[1])
        hidden = inputs + self.positions.weight[: inputs.shape[1]]
        hidden = F.dropout(hidden, self.dropout, self.training)
        for block in self.blocks:
            hidden = block(hidden)
        return self.norm(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, S, D) → (B, S, V)."""
        return F.linear(hidden, self.embedding.weight)

    def check_length(self, length: int) -> None:
        if length > self.sizes.positions:
            raise EarwitnessError(
                f"prefix: {length} tokens with the prefix, but the decoder has "
                f"{self.sizes.positions} positions; lower prefix.max_tokens or max_length"
            )

    def stack(self) -> list[Block]:
        """The layers, first to last."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def _initialise(self) -> None:
        """GPT-2's, in proportion to the width; what is added to the residual is scaled down."""
        std = 0.02 * math.sqrt(768 / self.sizes.width)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=std / math.sqrt(2 * self.sizes.layers) if last else std)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)


@torch.no_grad()
def extend_rows(weight: Tensor, rows: int, like: int) -> Tensor:
    """(V, D) with copies of the row ``like`` up to ``rows``: tokens that were added to it."""
    return torch.cat([weight, weight[like].expand(max(0, rows - len(weight)), -1)])

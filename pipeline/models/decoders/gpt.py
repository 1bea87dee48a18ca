"""A GPT-style decoder (Radford et al. 2019): pre-norm, learned positions, tied output.

With the sizes of a GPT-2 it is GPT-2, and takes its weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import EarwitnessError
from pipeline.models.decoders.cached import (
    Affine,
    CachedState,
    CachedStepper,
    LayerCache,
    affine,
    no_past,
    product_dtype,
)
from pipeline.models.decoders.cached_attention import join_heads, split_parts
from pipeline.tensors import Memory, TokenIds

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


class LayerWeights(NamedTuple):
    """One layer's weights in the dtype that the products run in."""

    module: Block  # for its norms
    qkv: Affine
    out: Affine
    up: Affine
    down: Affine


@dataclass(frozen=True, kw_only=True)
class GptState(CachedState):
    """The prefix is in the first slots of the caches."""

    layers: tuple[LayerWeights, ...]


class GptStepper(CachedStepper):
    """A ``Stepper``; runs without gradients or dropout."""

    def __init__(self, decoder: Gpt, tokens: TokenIds) -> None:
        self.decoder = decoder
        self.vocabulary, self.begin, self.pad, self.end = tokens

    @torch.no_grad()
    def start(self, memory: Memory, beams: int, max_length: int) -> GptState:
        """See :class:`Stepper`; the prefix is read here, and the decoder's weights, once."""
        clips, prefix, _ = memory.values.shape
        self.decoder.check_length(prefix + max_length)
        dtype = product_dtype(self.decoder.embedding.weight)
        layers = tuple(_weights(block, dtype) for block in self.decoder.stack())
        slots = prefix + max_length * beams
        hidden = memory.values + self.decoder.positions.weight[:prefix]
        caches = []
        for layer in layers:
            hidden, cache = _read_prefix(hidden, layer, slots)
            caches.append(cache)
        past = no_past(clips, beams, slots, hidden.device)
        past[:, :, :prefix] = True
        output = Affine(self.decoder.embedding.weight.to(dtype), None)
        return GptState(
            layers=layers, output=output, caches=tuple(caches), past=past, prefix=prefix
        )

    @torch.no_grad()
    def step(self, tokens: Tensor, state: GptState) -> tuple[Tensor, GptState]:
        """(B, K) tokens to (B, K, V) log-probabilities; see :class:`Stepper`."""
        after = state.stepped()
        position = self.decoder.positions.weight[state.prefix + state.steps]
        hidden = self.decoder.embedding(tokens) + position
        own = after.own
        for layer, cache in zip(state.layers, state.caches, strict=True):
            query, key, value = _qkv(hidden, layer)
            keys, values = cache.write(key, value, after.used)
            read = F.scaled_dot_product_attention(query, keys, values, attn_mask=own)
            hidden = _after(hidden, read, layer)
        # a pretrained one may have more tokens than the tokenizer
        logits = state.output(self.decoder.norm(hidden))[..., : self.vocabulary]
        return logits.float().log_softmax(-1), after


def _read_prefix(hidden: Tensor, layer: LayerWeights, slots: int) -> tuple[Tensor, LayerCache]:
    """(B, P, D) prefix through one layer, and the cache whose first slots hold it."""
    query, keys, values = _qkv(hidden, layer)
    read = F.scaled_dot_product_attention(query, keys, values, is_causal=True)
    cache = LayerCache.empty(keys[:, :, :0], values[:, :, :0], slots)
    cache.write(keys, values, keys.shape[2])
    return _after(hidden, read, layer), cache


def _qkv(hidden: Tensor, layer: LayerWeights) -> tuple[Tensor, ...]:
    """(B, L, D) → (B, H, L, d) each."""
    return split_parts(layer.qkv(layer.module.attention_norm(hidden)), 3, layer.module.heads)


def _after(hidden: Tensor, read: Tensor, layer: LayerWeights) -> Tensor:
    """The rest of a layer: (B, L, D) and what its attention read, (B, H, L, d) → (B, L, D)."""
    hidden = hidden + layer.out(join_heads(read))
    inner = F.gelu(layer.up(layer.module.inner_norm(hidden)), approximate="tanh")
    return hidden + layer.down(inner)


def _weights(block: Block, dtype: torch.dtype) -> LayerWeights:
    parts = (block.qkv, block.out, block.up, block.down)
    return LayerWeights(block, *(affine(part, dtype) for part in parts))

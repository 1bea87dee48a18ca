"""The GPT-style decoder after a prefix, one token of every hypothesis at a time.

Quick as :mod:`pipeline.models.cached_attention` is, by the same means; the prefix stands in the
first slots of each clip's cache, which all its hypotheses share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.models.batch import Memory
from pipeline.models.cached import (
    Affine,
    CachedState,
    CachedStepper,
    LayerCache,
    affine,
    no_past,
    product_dtype,
)
from pipeline.models.captioner import TokenIds
from pipeline.models.heads import join_heads, split_parts

if TYPE_CHECKING:
    from pipeline.models.gpt import Block, Gpt


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
    """A :class:`pipeline.decoding.stepper.Stepper`; runs without gradients or dropout."""

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

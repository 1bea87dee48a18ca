"""The GPT-style decoder after a prefix, one token of every hypothesis at a time.

Quick as :mod:`pipeline.models.transformer_stepper` is, by the same means; the prefix stands in the
first slots of each clip's cache, which all its hypotheses share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.models.batch import Memory
from pipeline.models.cached import (
    Affine,
    LayerCache,
    affine,
    joined,
    product_dtype,
    reordered,
    with_own_slots,
)
from pipeline.models.captioner import TokenIds

if TYPE_CHECKING:
    from pipeline.models.gpt import Block, Gpt


class LayerWeights(NamedTuple):
    """One layer's weights in the dtype that the products run in."""

    module: Block  # for its norms
    qkv: Affine
    out: Affine
    up: Affine
    down: Affine


@dataclass(frozen=True)
class GptState:
    """A step writes its keys and values into ``caches`` in place: a state is stepped once."""

    layers: tuple[LayerWeights, ...]
    output: Tensor  # (V, D)
    caches: tuple[LayerCache, ...]  # of P + K × steps slots
    past: Tensor  # (B, K, S) bool: the prefix, and the slots that are each hypothesis' own past
    prefix: int  # P
    steps: int  # taken so far


class GptStepper:
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
        past = torch.zeros(clips, beams, slots, dtype=torch.bool, device=hidden.device)
        past[:, :, :prefix] = True
        output = self.decoder.embedding.weight.to(dtype)
        return GptState(layers, output, tuple(caches), past, prefix, steps=0)

    @torch.no_grad()
    def step(self, tokens: Tensor, state: GptState) -> tuple[Tensor, GptState]:
        """(B, K) tokens to (B, K, V) log-probabilities; see :class:`Stepper`."""
        used = state.prefix + (state.steps + 1) * tokens.shape[1]
        past = with_own_slots(state.past, state.steps, state.prefix)
        position = self.decoder.positions.weight[state.prefix + state.steps]
        hidden = self.decoder.embedding(tokens) + position
        own = past[:, None, :, :used]  # (B, 1, K, slots in use)
        for layer, cache in zip(state.layers, state.caches, strict=True):
            query, key, value = _qkv(hidden, layer)
            keys, values = cache.write(key, value, used)
            read = F.scaled_dot_product_attention(query, keys, values, attn_mask=own)
            hidden = _after(hidden, read, layer)
        hidden = self.decoder.norm(hidden).to(state.output.dtype)
        logits = F.linear(hidden, state.output)[..., : self.vocabulary]
        after = replace(state, past=past, steps=state.steps + 1)
        return logits.float().log_softmax(-1), after

    def reorder(self, state: GptState, parents: Tensor) -> GptState:
        """See :class:`Stepper`; the caches stay where they are."""
        return replace(state, past=reordered(state.past, parents))

    def select(self, state: GptState, clips: Tensor) -> GptState:
        """See :class:`Stepper`; only the slots in use are copied."""
        used = state.prefix + state.steps * state.past.shape[1]
        caches = tuple(cache.select(clips, used) for cache in state.caches)
        return replace(state, caches=caches, past=state.past[clips])


def _read_prefix(hidden: Tensor, layer: LayerWeights, slots: int) -> tuple[Tensor, LayerCache]:
    """(B, P, D) prefix through one layer, and the cache whose first slots hold it."""
    query, keys, values = _qkv(hidden, layer)
    read = F.scaled_dot_product_attention(query, keys, values, is_causal=True)
    cache = LayerCache.empty(keys[:, :, :0], values[:, :, :0], slots)
    cache.write(keys, values, keys.shape[2])
    return _after(hidden, read, layer), cache


def _qkv(hidden: Tensor, layer: LayerWeights) -> tuple[Tensor, Tensor, Tensor]:
    """(B, L, D) → (B, H, L, d) each."""
    normed = layer.module.attention_norm(hidden).to(layer.qkv.weight.dtype)
    return layer.module.split(F.linear(normed, *layer.qkv))


def _after(hidden: Tensor, read: Tensor, layer: LayerWeights) -> Tensor:
    """The rest of a layer: (B, L, D) and what its attention read, (B, H, L, d) → (B, L, D)."""
    hidden = hidden + F.linear(joined(read), *layer.out)
    normed = layer.module.inner_norm(hidden).to(layer.up.weight.dtype)
    inner = F.gelu(F.linear(normed, *layer.up), approximate="tanh")
    return hidden + F.linear(inner, *layer.down)


def _weights(block: Block, dtype: torch.dtype) -> LayerWeights:
    parts = (block.qkv, block.out, block.up, block.down)
    return LayerWeights(block, *(affine(part, dtype) for part in parts))

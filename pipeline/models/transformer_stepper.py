"""The Transformer decoder over words, one token of every hypothesis at a time.

Quick as :mod:`pipeline.models.bart_stepper` is, by the same means: the K hypotheses of a clip are K
queries to one memory; each step writes K slots a clip, which never move, and a bool (K, slots) says
which of them are a hypothesis' own past.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.errors import EarwitnessError
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
    from pipeline.models.transformer_decoder import DecoderLayer, TransformerDecoder


class LayerWeights(NamedTuple):
    """One layer's weights in the dtype that the products run in."""

    module: DecoderLayer  # for its norms
    qkv: Affine
    self_out: Affine
    query: Affine
    cross_out: Affine
    up: Affine
    down: Affine


@dataclass(frozen=True)
class TransformerState:
    """A step writes its keys and values into ``caches`` in place: a state is stepped once."""

    layers: tuple[LayerWeights, ...]
    classifier: Tensor  # (V, D)
    caches: tuple[LayerCache, ...]
    memory_mask: Tensor  # (B, 1, 1, T) bool
    past: Tensor  # (B, K, S) bool: the slots that are each hypothesis' own past
    steps: int  # taken so far


class TransformerStepper:
    """A :class:`pipeline.decoding.stepper.Stepper`; runs without gradients or dropout."""

    def __init__(self, decoder: TransformerDecoder, tokens: TokenIds) -> None:
        self.decoder = decoder
        self.vocabulary, self.begin, self.pad, self.end = tokens

    @torch.no_grad()
    def start(self, memory: Memory, beams: int, max_length: int) -> TransformerState:
        """See :class:`Stepper`; the decoder's weights are read here, once for all steps."""
        longest = self.decoder.positions.shape[0]
        if max_length > longest:
            raise EarwitnessError(
                f"{self.decoder.section}: {max_length} words, but the decoder has {longest} "
                "positions; lower max_length"
            )
        layers = self.decoder.stack()
        device, slots = memory.values.device, max_length * beams
        dtype = product_dtype(self.decoder.classifier.weight)
        clips = memory.values.shape[0]
        return TransformerState(
            layers=tuple(_weights(layer, dtype) for layer in layers),
            classifier=self.decoder.classifier.weight.to(dtype),
            caches=tuple(_cache(layer, memory.values, slots, dtype) for layer in layers),
            memory_mask=memory.mask[:, None, None, :],
            past=torch.zeros(clips, beams, slots, dtype=torch.bool, device=device),
            steps=0,
        )

    @torch.no_grad()
    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """(B, K) tokens to (B, K, V) log-probabilities; see :class:`Stepper`."""
        used = (state.steps + 1) * tokens.shape[1]
        past = with_own_slots(state.past, state.steps)
        decoder = self.decoder
        hidden = decoder.embedding(tokens) * decoder.scale + decoder.positions[state.steps]
        own = past[:, None, :, :used]  # (B, 1, K, slots in use)
        for layer, cache in zip(state.layers, state.caches, strict=True):
            hidden = _advance(hidden, layer, cache, own, state.memory_mask)
        logits = F.linear(hidden.to(state.classifier.dtype), state.classifier)
        after = replace(state, past=past, steps=state.steps + 1)
        return logits.float().log_softmax(-1), after

    def reorder(self, state: TransformerState, parents: Tensor) -> TransformerState:
        """See :class:`Stepper`; the caches stay where they are."""
        return replace(state, past=reordered(state.past, parents))

    def select(self, state: TransformerState, clips: Tensor) -> TransformerState:
        """See :class:`Stepper`; only the slots in use are copied."""
        used = state.steps * state.past.shape[1]
        caches = tuple(cache.select(clips, used) for cache in state.caches)
        return replace(
            state, caches=caches, memory_mask=state.memory_mask[clips], past=state.past[clips]
        )


def _advance(
    hidden: Tensor, layer: LayerWeights, cache: LayerCache, own: Tensor, shown: Tensor
) -> Tensor:
    """(B, K, D) to (B, K, D); this step's keys and values go to the last K slots in use."""
    dtype = layer.qkv.weight.dtype
    query, key, value = layer.module.split(F.linear(hidden.to(dtype), *layer.qkv), 3)
    keys, values = cache.write(key, value, own.shape[-1])
    read = F.scaled_dot_product_attention(query, keys, values, attn_mask=own)
    hidden = layer.module.self_norm(hidden + F.linear(joined(read), *layer.self_out))
    (query,) = layer.module.split(F.linear(hidden.to(dtype), *layer.query), 1)
    read = F.scaled_dot_product_attention(
        query, cache.memory_keys, cache.memory_values, attn_mask=shown
    )
    hidden = layer.module.cross_norm(hidden + F.linear(joined(read), *layer.cross_out))
    inner = F.linear(hidden.to(dtype), *layer.up).relu()
    return layer.module.final_norm(hidden + F.linear(inner, *layer.down))


def _cache(layer: DecoderLayer, memory: Tensor, slots: int, dtype: torch.dtype) -> LayerCache:
    """Keys and values of the memory (B, T, D), and empty slots."""
    keys, values = layer.split(F.linear(memory.to(dtype), *affine(layer.memory, dtype)), 2)
    return LayerCache.empty(keys, values, slots)


def _weights(layer: DecoderLayer, dtype: torch.dtype) -> LayerWeights:
    parts = (layer.qkv, layer.self_out, layer.query, layer.cross_out, layer.up, layer.down)
    return LayerWeights(layer, *(affine(part, dtype) for part in parts))

"""BART's decoder, one token of every hypothesis at a time.

What makes it quick, beside the cache:

- Keys and values of the memory are computed once a clip, and the K hypotheses attend to them as K
  queries of one clip; they are not copied K times.
- Hypotheses are never moved in the cache. Each step writes K slots a clip, and a bool (K, slots)
  says which slots are a hypothesis' own past, so a reordering gathers that alone. A query scores
  its clip's other slots too, which is masked out: a few more products in place of a copy of the
  whole cache in each step.
- Queries, keys and values come from one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.bart.modeling_bart import BartAttention, BartDecoderLayer

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


class LayerWeights(NamedTuple):
    """One decoder layer's weights in the dtype that the products run in."""

    qkv: Affine  # (3D, D)
    self_out: Affine
    query: Affine
    cross_out: Affine
    up: Affine
    down: Affine
    module: BartDecoderLayer  # for its norms and its activation


@dataclass(frozen=True)
class BartState:
    """A step writes its keys and values into ``caches`` in place: a state is stepped once."""

    layers: tuple[LayerWeights, ...]
    output: Affine  # (V, D)
    caches: tuple[LayerCache, ...]
    memory_mask: Tensor  # (B, 1, 1, T) bool
    past: Tensor  # (B, K, S) bool: the slots that are each hypothesis' own past
    steps: int  # taken so far


class BartStepper:
    """A :class:`pipeline.decoding.stepper.Stepper` over BART's decoder; runs without gradients."""

    def __init__(
        self,
        decoder: Any,
        bias: Tensor,
        *,
        begin: int,
        end: int,
        pad: int,
        prefix: int | None,
    ) -> None:
        """transformers' BartDecoder.

        Args:
            bias: (V,), of the output.
            prefix: a token read before the first, or None.
        """
        self.decoder = decoder
        self.bias = bias
        self.begin = begin
        self.end = end
        self.pad = pad
        self.prefix = prefix
        self.vocabulary = bias.shape[0]
        self.heads: int = decoder.config.decoder_attention_heads

    @torch.no_grad()
    def start(self, memory: Memory, beams: int, max_length: int) -> BartState:
        """See :class:`Stepper`; the decoder's weights are read here, once for all steps."""
        steps = max_length + (self.prefix is not None)
        if steps > self.decoder.config.max_position_embeddings:
            raise EarwitnessError(
                f"bart: {steps} tokens, but the decoder has "
                f"{self.decoder.config.max_position_embeddings} positions; lower max_length"
            )
        device = memory.values.device
        dtype = product_dtype(self.bias)
        slots = steps * beams
        clips = memory.values.shape[0]
        state = BartState(
            layers=tuple(_weights(layer, dtype) for layer in self.decoder.layers),
            output=Affine(self.decoder.embed_tokens.weight.to(dtype), self.bias.to(dtype)),
            caches=tuple(
                self._cache(layer.encoder_attn, memory.values, slots, dtype)
                for layer in self.decoder.layers
            ),
            memory_mask=memory.mask[:, None, None, :],
            past=torch.zeros(clips, beams, slots, dtype=torch.bool, device=device),
            steps=0,
        )
        if self.prefix is None:
            return state
        prefix = torch.full((clips, beams), self.prefix, dtype=torch.int64, device=device)
        return self._advance(prefix, state)[1]

    @torch.no_grad()
    def step(self, tokens: Tensor, state: BartState) -> tuple[Tensor, BartState]:
        """(B, K) tokens to (B, K, V) log-probabilities; see :class:`Stepper`."""
        hidden, state = self._advance(tokens, state)
        logits = F.linear(hidden.to(state.output.weight.dtype), *state.output)
        return logits.float().log_softmax(-1), state

    def reorder(self, state: BartState, parents: Tensor) -> BartState:
        """See :class:`Stepper`; the caches stay where they are."""
        return replace(state, past=reordered(state.past, parents))

    def select(self, state: BartState, clips: Tensor) -> BartState:
        """See :class:`Stepper`; only the slots in use are copied."""
        used = state.steps * state.past.shape[1]
        return replace(
            state,
            caches=tuple(cache.select(clips, used) for cache in state.caches),
            memory_mask=state.memory_mask[clips],
            past=state.past[clips],
        )

    def _advance(self, tokens: Tensor, state: BartState) -> tuple[Tensor, BartState]:
        """The last layer's states of (B, K) tokens, (B, K, D), and the state after them."""
        used = (state.steps + 1) * tokens.shape[1]
        past = with_own_slots(state.past, state.steps)
        positions = self.decoder.embed_positions
        hidden = self.decoder.embed_tokens(tokens)
        hidden = hidden + positions.weight[state.steps + positions.offset]
        hidden = self.decoder.layernorm_embedding(hidden)
        own = past[:, None, :, :used]  # (B, 1, K, slots in use)
        for layer, cache in zip(state.layers, state.caches, strict=True):
            hidden = self._layer(hidden, layer, cache, own, state.memory_mask)
        return hidden, replace(state, past=past, steps=state.steps + 1)

    def _layer(
        self, hidden: Tensor, layer: LayerWeights, cache: LayerCache, own: Tensor, mask: Tensor
    ) -> Tensor:
        """(B, K, D) to (B, K, D); this step's keys and values go to the last K slots in use."""
        module, dtype = layer.module, layer.qkv.weight.dtype
        qkv = F.linear(hidden.to(dtype), *layer.qkv).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, K, d)
        keys, values = cache.write(key, value, own.shape[-1])
        read = F.scaled_dot_product_attention(query, keys, values, attn_mask=own)
        hidden = hidden + F.linear(joined(read), *layer.self_out)
        hidden = module.self_attn_layer_norm(hidden)

        query = F.linear(hidden.to(dtype), *layer.query)
        query = query.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        read = F.scaled_dot_product_attention(
            query, cache.memory_keys, cache.memory_values, attn_mask=mask
        )
        hidden = hidden + F.linear(joined(read), *layer.cross_out)
        hidden = module.encoder_attn_layer_norm(hidden)

        inner = module.activation_fn(F.linear(hidden.to(dtype), *layer.up))
        hidden = hidden + F.linear(inner, *layer.down)
        return module.final_layer_norm(hidden)

    def _cache(
        self, attention: BartAttention, memory: Tensor, slots: int, dtype: torch.dtype
    ) -> LayerCache:
        """Keys and values of the memory (B, T, D), and empty slots."""
        keys, values = (
            F.linear(memory.to(dtype), *affine(projection, dtype))
            .unflatten(-1, (self.heads, -1))
            .transpose(1, 2)
            for projection in (attention.k_proj, attention.v_proj)
        )
        return LayerCache.empty(keys, values, slots)


def _weights(layer: BartDecoderLayer, dtype: torch.dtype) -> LayerWeights:
    own, cross = layer.self_attn, layer.encoder_attn
    three = [affine(linear, dtype) for linear in (own.q_proj, own.k_proj, own.v_proj)]
    return LayerWeights(
        qkv=Affine(torch.cat([a.weight for a in three]), torch.cat([a.bias for a in three])),
        self_out=affine(own.out_proj, dtype),
        query=affine(cross.q_proj, dtype),
        cross_out=affine(cross.out_proj, dtype),
        up=affine(layer.fc1, dtype),
        down=affine(layer.fc2, dtype),
        module=layer,
    )

"""Cached decoding steps of BART's decoder; see :mod:`pipeline.models.decoders.cached`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.models.bart.modeling_bart import BartAttention, BartDecoderLayer

from pipeline.errors import EarwitnessError
from pipeline.models.decoders.cached import (
    Affine,
    AttentionState,
    CachedLayer,
    CachedStepper,
    LayerCache,
    affine,
    no_past,
    product_dtype,
    split_parts,
)
from pipeline.tensors import Memory, TokenIds


class BartStepper(CachedStepper):
    """A ``Stepper`` over BART's decoder; runs without gradients."""

    def __init__(
        self,
        decoder: Any,
        bias: Tensor,
        tokens: TokenIds,
        prefix: int | None,
    ) -> None:
        """
        Args:
            decoder: transformers' BartDecoder.
            bias: (V,), of the output.
            prefix: the token that is read before the first, or None.
        """
        self.decoder, self.bias, self.prefix = decoder, bias, prefix
        self.vocabulary, self.begin, self.pad, self.end = tokens
        self.heads: int = decoder.config.decoder_attention_heads

    @torch.no_grad()
    def start(self, memory: Memory, beams: int, max_length: int) -> AttentionState:
        """See :class:`Stepper`; casts the decoder's weights here, once for all steps."""
        steps = max_length + (self.prefix is not None)
        if steps > self.decoder.config.max_position_embeddings:
            raise EarwitnessError(
                f"bart: {steps} tokens, but the decoder has "
                f"{self.decoder.config.max_position_embeddings} positions; lower max_length"
            )
        dtype = product_dtype(self.bias)
        values, slots = memory.values, steps * beams
        state = AttentionState(
            layers=tuple(_layer(layer, self.heads, dtype) for layer in self.decoder.layers),
            output=Affine(self.decoder.embed_tokens.weight.to(dtype), self.bias.to(dtype)),
            caches=tuple(
                self._cache(layer.encoder_attn, values, slots, dtype)
                for layer in self.decoder.layers
            ),
            memory_mask=memory.mask[:, None, None, :],
            past=no_past(len(values), beams, slots, values.device),
        )
        if self.prefix is None:
            return state
        prefix = torch.full((len(values), beams), self.prefix, device=values.device)
        return state.advance(self._embed(prefix, 0))[1]

    @torch.no_grad()
    def step(self, tokens: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        """(B, K) tokens to (B, K, V) log-probabilities; see :class:`Stepper`."""
        hidden, after = state.advance(self._embed(tokens, state.steps))
        return after.log_probs(hidden), after

    def _embed(self, tokens: Tensor, step: int) -> Tensor:
        """(B, K) tokens of a step, counted from the prefix → (B, K, D)."""
        positions = self.decoder.embed_positions
        hidden = self.decoder.embed_tokens(tokens) + positions.weight[step + positions.offset]
        embedded: Tensor = self.decoder.layernorm_embedding(hidden)
        return embedded

    def _cache(
        self, attention: BartAttention, memory: Tensor, slots: int, dtype: torch.dtype
    ) -> LayerCache:
        """Keys and values of the memory (B, T, D), and empty slots."""
        keys, values = (
            split_parts(affine(projection, dtype)(memory), 1, self.heads)[0]
            for projection in (attention.k_proj, attention.v_proj)
        )
        return LayerCache.empty(keys, values, slots)


def _layer(layer: BartDecoderLayer, heads: int, dtype: torch.dtype) -> CachedLayer:
    past, cross = layer.self_attn, layer.encoder_attn
    three = (past.q_proj, past.k_proj, past.v_proj)
    return CachedLayer(
        heads=heads,
        qkv=Affine(
            torch.cat([linear.weight.to(dtype) for linear in three]),
            torch.cat([linear.bias.to(dtype) for linear in three]),
        ),
        self_out=affine(past.out_proj, dtype),
        self_norm=layer.self_attn_layer_norm,
        query=affine(cross.q_proj, dtype),
        cross_out=affine(cross.out_proj, dtype),
        cross_norm=layer.encoder_attn_layer_norm,
        up=affine(layer.fc1, dtype),
        activation=layer.activation_fn,
        down=affine(layer.fc2, dtype),
        final_norm=layer.final_layer_norm,
    )

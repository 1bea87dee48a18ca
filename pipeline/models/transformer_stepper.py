"""The Transformer decoder over words, one token of every hypothesis at a time.

What makes it quick is in :mod:`pipeline.models.cached_attention`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.errors import EarwitnessError
from pipeline.models.batch import Memory
from pipeline.models.cached import Affine, CachedStepper, LayerCache, affine, no_past, product_dtype
from pipeline.models.cached_attention import AttentionState, Layer
from pipeline.models.captioner import TokenIds
from pipeline.models.heads import split_parts

if TYPE_CHECKING:
    from pipeline.models.transformer_decoder import DecoderLayer, TransformerDecoder


class TransformerStepper(CachedStepper):
    """A :class:`pipeline.decoding.stepper.Stepper`; runs without gradients or dropout."""

    def __init__(self, decoder: TransformerDecoder, tokens: TokenIds) -> None:
        self.decoder = decoder
        self.vocabulary, self.begin, self.pad, self.end = tokens

    @torch.no_grad()
    def start(self, memory: Memory, beams: int, max_length: int) -> AttentionState:
        """See :class:`Stepper`; the decoder's weights are read here, once for all steps."""
        longest = self.decoder.positions.shape[0]
        if max_length > longest:
            raise EarwitnessError(
                f"{self.decoder.section}: {max_length} words, but the decoder has {longest} "
                "positions; lower max_length"
            )
        layers, slots = self.decoder.stack(), max_length * beams
        dtype = product_dtype(self.decoder.classifier.weight)
        values = memory.values
        return AttentionState(
            layers=tuple(_layer(layer, dtype) for layer in layers),
            output=Affine(self.decoder.classifier.weight.to(dtype), None),
            caches=tuple(_cache(layer, values, slots, dtype) for layer in layers),
            memory_mask=memory.mask[:, None, None, :],
            past=no_past(len(values), beams, slots, values.device),
        )

    @torch.no_grad()
    def step(self, tokens: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        """(B, K) tokens to (B, K, V) log-probabilities; see :class:`Stepper`."""
        decoder = self.decoder
        embedded = decoder.embedding(tokens) * decoder.scale + decoder.positions[state.steps]
        hidden, after = state.advance(embedded)
        return after.log_probs(hidden), after


def _cache(layer: DecoderLayer, memory: Tensor, slots: int, dtype: torch.dtype) -> LayerCache:
    """Keys and values of the memory (B, T, D), and empty slots."""
    keys, values = split_parts(affine(layer.memory, dtype)(memory), 2, layer.heads)
    return LayerCache.empty(keys, values, slots)


def _layer(layer: DecoderLayer, dtype: torch.dtype) -> Layer:
    return Layer(
        heads=layer.heads,
        qkv=affine(layer.qkv, dtype),
        self_out=affine(layer.self_out, dtype),
        self_norm=layer.self_norm,
        query=affine(layer.query, dtype),
        cross_out=affine(layer.cross_out, dtype),
        cross_norm=layer.cross_norm,
        up=affine(layer.up, dtype),
        activation=torch.relu,
        down=affine(layer.down, dtype),
        final_norm=layer.final_norm,
    )

"""SJTU's Transformer decoder over words (SJTU 2.1, Table 1), post-norm as Vaswani et al. 2017.

The published code's sizes: 4 heads, feed-forward 4 D, no bias in the classifier, which is not the
embedding; with 2 layers of 256 it is the paper's 10.4 M parameters with the encoder, with 4 layers
12.5 M. In that code the initialisation overwrites the sinusoids of the positions with noise of
±0.015: an error, which is not repeated here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import EarwitnessError
from pipeline.models.decoders.cached import (
    Affine,
    AttentionState,
    CachedLayer,
    CachedStepper,
    LayerCache,
    affine,
    join_heads,
    no_past,
    product_dtype,
    split_parts,
)
from pipeline.models.decoders.words import WordDecoder
from pipeline.tensors import Memory, TokenIds
from pipeline.uncompiled import uncompiled

POSITIONS = 512  # the longest caption that can be decoded


class TransformerSettings(Protocol):
    """The settings of a decoder, in a section of the parameters."""

    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def feed_forward(self) -> int: ...
    @property
    def dropout(self) -> float: ...
    @property
    def decoder_layers(self) -> int: ...
    @property
    def max_words(self) -> int: ...


class KeysValues(NamedTuple):
    """Of one attention layer; d is the width of a head."""

    keys: Tensor  # (B, H, S, d)
    values: Tensor  # (B, H, S, d)


class Attended(NamedTuple):
    """What each step needs of the memory."""

    layers: tuple[KeysValues, ...]
    mask: Tensor  # (B, 1, 1, T) bool


class Past(NamedTuple):
    """The S tokens that were read before."""

    layers: tuple[KeysValues, ...]
    written: Tensor  # (B, S) bool, false at padding


class DecoderLayer(nn.Module):
    """Equal to ``nn.TransformerDecoderLayer`` with ReLU, but the past is an argument."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.self_out = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.memory = nn.Linear(width, 2 * width)  # keys and values
        self.cross_out = nn.Linear(width, width)
        self.up = nn.Linear(width, feed_forward)
        self.down = nn.Linear(feed_forward, width)
        self.self_norm = nn.LayerNorm(width)
        self.cross_norm = nn.LayerNorm(width)
        self.final_norm = nn.LayerNorm(width)
        for linear in (self.qkv, self.query, self.memory, self.self_out, self.cross_out):
            nn.init.zeros_(linear.bias)
        for part in (*self.qkv.weight.chunk(3), self.query.weight, *self.memory.weight.chunk(2)):
            nn.init.xavier_uniform_(part, gain=0.5**0.5)  # as nn's one matrix of all three
        for linear in (self.self_out, self.cross_out, self.up, self.down):
            nn.init.xavier_uniform_(linear.weight)

    def attended(self, memory: Tensor) -> KeysValues:
        """Keys and values of the memory (B, T, D)."""
        keys, values = split_parts(self.memory(memory), 2, self.heads)
        return KeysValues(keys, values)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        past: KeysValues | None,
        memory: KeysValues,
        memory_mask: Tensor,
    ) -> tuple[Tensor, KeysValues]:
        """(B, L, D) → the same, and the past of what follows.

        Args:
            mask: (B, 1, L, S + L) bool, of the past and of ``hidden``.
            memory_mask: (B, 1, 1, T) bool.
        """
        query, keys, values = split_parts(self.qkv(hidden), 3, self.heads)
        if past is not None:
            keys = torch.cat([past.keys, keys], 2)
            values = torch.cat([past.values, values], 2)
        read = self._attend(query, KeysValues(keys, values), mask)
        hidden = self.self_norm(hidden + self._drop(self.self_out(read)))
        (query,) = split_parts(self.query(hidden), 1, self.heads)
        read = self._attend(query, memory, memory_mask)
        hidden = self.cross_norm(hidden + self._drop(self.cross_out(read)))
        inner = self.down(self._drop(self.up(hidden).relu()))
        return self.final_norm(hidden + self._drop(inner)), KeysValues(keys, values)

    def _attend(self, query: Tensor, read: KeysValues, mask: Tensor) -> Tensor:
        """(B, H, L, d) → (B, L, D)."""
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(query, *read, attn_mask=mask, dropout_p=dropout)
        return join_heads(out)

    def _drop(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.dropout, self.training)


class TransformerDecoder(WordDecoder):
    """``settings.decoder_layers`` layers over V words.

    Scheduled sampling: a step that is not gold reads ``begin`` and all of the model's argmaxes
    instead of the caption so far.

    Args:
        inputs: W of the encoder; None where it is D, and nothing is projected.
        section: the settings' name, for errors.
    """

    positions: Tensor

    def __init__(
        self,
        inputs: int | None,
        settings: TransformerSettings,
        tokens: TokenIds,
        section: str = "seq2seq",
    ) -> None:
        super().__init__()
        width, heads = settings.width, settings.heads
        self.tokens, self.dropout, self.section = tokens, settings.dropout, section
        self.scale = math.sqrt(width)  # of the embeddings
        self.project: nn.Module = nn.Identity()
        if inputs is not None:
            linear, drop = nn.Linear(inputs, width), nn.Dropout(settings.dropout)
            self.project = nn.Sequential(linear, nn.ReLU(), drop, nn.LayerNorm(width))
        self.embedding = nn.Embedding(tokens.size, width)
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, settings.feed_forward, settings.dropout)
            for _ in range(settings.decoder_layers)
        )
        self.classifier = nn.Linear(width, tokens.size, bias=False)
        table = sinusoids(max(POSITIONS, settings.max_words + 1), width)
        self.register_buffer("positions", table, persistent=False)
        for module in (self.project, self.embedding, self.classifier):
            for weight in module.parameters():
                if weight.ndim > 1:
                    nn.init.xavier_uniform_(weight)

    def read(self, values: Tensor) -> Tensor:
        projected: Tensor = self.project(values)
        return projected

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        return self.classifier(self.states(memory, tokens)[-1])

    def states(self, memory: Memory, tokens: Tensor) -> tuple[Tensor, ...]:
        """(B, L, D) after each layer, of tokens (B, L); the classifier's are the last."""
        return self._advance(tokens, self._attended(memory), None)[0]

    @uncompiled  # ``gold`` differs at every step, and each would be compiled again
    def scheduled(self, memory: Memory, tokens: Tensor, gold: Sequence[bool]) -> Tensor:
        """See :class:`WordDecoder`.

        All gold steps are one pass over the caption. The other steps read the sequence of argmaxes
        ("free" steps); it goes through the cache up to each of them, so that each of its tokens is
        read once. The pass that chooses a word also has the gradient, with one dropout mask. (The
        published code draws a new mask for the prefix of each step.)
        """
        attended = self._attended(memory)
        hidden = self._advance(tokens, attended, None)[0][-1]
        free = [step for step in range(1, len(gold)) if not gold[step]]
        if not free:
            return self.classifier(hidden)
        picked = self._pick(hidden[:, : free[-1]])  # (B, free[-1]), the word after each gold step
        steps = list(hidden.unbind(1))
        word, first = tokens[:, :1], 0  # the first token of the argmaxes that is not read yet
        past: Past | None = None
        for step in free:
            unread = torch.cat([word, picked[:, first:step]], 1)
            states, past = self._advance(unread, attended, past)
            steps[step] = states[-1][:, -1]
            word, first = self._pick(states[-1][:, -1:]), step + 1
        return self.classifier(torch.stack(steps, 1))

    def stepper(self) -> TransformerStepper:
        return TransformerStepper(self, self.tokens)

    def embed(self, tokens: Tensor, first: int) -> Tensor:
        """(B, L) tokens from position ``first`` on → (B, L, D)."""
        words = F.dropout(self.embedding(tokens), self.dropout, self.training)
        positions = self.positions[first : first + tokens.shape[1]]
        return F.dropout(words * self.scale + positions, self.dropout, self.training)

    def _attended(self, memory: Memory) -> Attended:
        layers = tuple(layer.attended(memory.values) for layer in self.stack())
        return Attended(layers, memory.mask[:, None, None, :])

    def _advance(
        self, tokens: Tensor, attended: Attended, past: Past | None
    ) -> tuple[tuple[Tensor, ...], Past]:
        """(B, L) tokens after the past → each layer's (B, L, D), and the past of what follows."""
        first = 0 if past is None else past.written.shape[1]
        # padding is never attended to, even where the model wrote it: as in the published code
        written = tokens != self.tokens.pad
        if past is not None:
            written = torch.cat([past.written, written], 1)
        ones = torch.ones(tokens.shape[1], written.shape[1], dtype=torch.bool, device=tokens.device)
        mask = ones.tril(first) & written[:, None, None]
        hidden = self.embed(tokens, first)
        states, layers = [], []
        for index, layer in enumerate(self.stack()):
            before = None if past is None else past.layers[index]
            read = attended.layers[index]
            hidden, after = layer(hidden, mask, before, read, attended.mask)
            states.append(hidden)
            layers.append(after)
        return tuple(states), Past(tuple(layers), written)

    @torch.no_grad()
    def _pick(self, hidden: Tensor) -> Tensor:
        """(B, L, D) → (B, L) int64, the most probable next words."""
        return self.classifier(hidden).argmax(-1)

    def stack(self) -> list[DecoderLayer]:
        """The layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]


def sinusoids(length: int, width: int) -> Tensor:
    """(length, width) position codes, sine and cosine in turn (Vaswani et al. 2017, 3.5)."""
    rate = 10000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(length)[:, None] * rate  # (length, ⌈width / 2⌉)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width].float()


class TransformerStepper(CachedStepper):
    """A ``Stepper``; runs without gradients or dropout."""

    def __init__(self, decoder: TransformerDecoder, tokens: TokenIds) -> None:
        self.decoder = decoder
        self.vocabulary, self.begin, self.pad, self.end = tokens

    @torch.no_grad()
    def start(self, memory: Memory, beams: int, max_length: int) -> AttentionState:
        """See :class:`Stepper`; casts the decoder's weights here, once for all steps."""
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


def _layer(layer: DecoderLayer, dtype: torch.dtype) -> CachedLayer:
    return CachedLayer(
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

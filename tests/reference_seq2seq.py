"""SJTU's decoders as their published code has them: torch's own modules, a step at a time.

Slow and obvious, for parity and for the benchmark. Weights come from ours by :func:`renamed`, which
renames gradients as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.decoders.gru import GruDecoder
from pipeline.models.decoders.transformer import TransformerDecoder
from pipeline.tensors import Memory

Named = dict[str, Tensor]


class ReferenceTransformer(nn.Module):
    """``nn.TransformerDecoder``; every call projects the memory and reads the whole prefix."""

    def __init__(self, ours: TransformerDecoder) -> None:
        super().__init__()
        vocabulary, width = ours.embedding.weight.shape
        inputs = next(ours.project.parameters()).shape[1]
        first, rate = ours.stack()[0], ours.dropout
        feed_forward = first.up.out_features
        layer = nn.TransformerDecoderLayer(
            width, first.heads, feed_forward, rate, batch_first=True, norm_first=False
        )
        self.model = nn.TransformerDecoder(layer, len(ours.layers))
        self.project = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(rate), nn.LayerNorm(width)
        )
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(rate)
        self.classifier = nn.Linear(width, vocabulary, bias=False)
        self.pad = ours.tokens.pad
        self.to(ours.embedding.weight.dtype)
        self.load_state_dict(self.renamed(ours.state_dict()))

    def forward(self, encoded: Memory, tokens: Tensor) -> Tensor:
        """(B, T, W) of the encoder and (B, L) tokens → (B, L, V)."""
        length, width = tokens.shape[1], self.embedding.embedding_dim
        words = self.dropout(self.embedding(tokens)) * math.sqrt(width)
        words = self.dropout(words + self.positions(length, width).to(words))
        future = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        hidden = self.model(
            words,
            self.project(encoded.values),
            tgt_mask=future,
            tgt_key_padding_mask=tokens == self.pad,
            memory_key_padding_mask=~encoded.mask,
        )
        return self.classifier(hidden)

    def scheduled(self, encoded: Memory, tokens: Tensor, gold: Sequence[bool]) -> Tensor:
        """The definition: at step t the caption's first t + 1 words, or all of the model's own."""
        own, logits = tokens[:, :1], []
        for step, is_gold in enumerate(gold):
            prefix = tokens[:, : step + 1] if is_gold else own
            logits.append(self(encoded, prefix)[:, -1])
            own = torch.cat([own, logits[-1].argmax(-1, keepdim=True)], 1)
        return torch.stack(logits, 1)

    @staticmethod
    def positions(length: int, width: int) -> Tensor:
        table = [
            [
                (math.cos if column % 2 else math.sin)(
                    position / 10000 ** (column // 2 * 2 / width)
                )
                for column in range(width)
            ]
            for position in range(length)
        ]
        return torch.tensor(table)

    @staticmethod
    def renamed(ours: Named) -> Named:
        """Our weights, or gradients, by torch's names."""
        theirs: Named = {}
        same = {"self_out": "self_attn.out_proj", "cross_out": "multihead_attn.out_proj"}
        same |= {"up": "linear1", "down": "linear2", "self_norm": "norm1", "cross_norm": "norm2"}
        same |= {"final_norm": "norm3"}
        for name, value in ours.items():
            if not name.startswith("layers."):
                theirs[name] = value
                continue
            _, index, part, kind = name.split(".")
            layer = f"model.layers.{index}."
            if part == "qkv":
                theirs[f"{layer}self_attn.in_proj_{kind}"] = value
            elif part == "query":
                both = torch.cat([value, ours[f"layers.{index}.memory.{kind}"]])
                theirs[f"{layer}multihead_attn.in_proj_{kind}"] = both
            elif part != "memory":
                theirs[f"{layer}{same[part]}.{kind}"] = value
        return theirs


class ReferenceGru(nn.Module):
    """``nn.GRU`` over word, context and mean; attention on query and keys side by side."""

    def __init__(self, ours: GruDecoder) -> None:
        super().__init__()
        vocabulary, width = ours.embedding.weight.shape
        inputs, layers = ours.key.in_features, len(ours.cells)
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(ours.dropout)
        self.attention = nn.Linear(layers * width + inputs, width)
        self.score = nn.Parameter(torch.empty(width))
        self.context = nn.Linear(inputs, width)
        self.clip = nn.Linear(inputs, width)
        self.gru = nn.GRU(3 * width, width, layers, batch_first=True)
        self.classifier = nn.Linear(width, vocabulary)
        self.to(ours.score.dtype)
        self.load_state_dict(self.renamed(ours.state_dict()))

    def step(self, encoded: Memory, words: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) words and (layers, B, D) → (B, V) logits and the state after."""
        frames = encoded.values.shape[1]
        query = state.transpose(0, 1).flatten(1)[:, None].expand(-1, frames, -1)
        both = torch.cat([query, encoded.values], -1)
        scores = torch.tanh(self.attention(both)) @ self.score
        weights = scores.masked_fill(~encoded.mask, -1e10).softmax(-1)
        context = (weights[..., None] * encoded.values).sum(1)
        clips = range(len(words))
        mean = torch.stack([encoded.values[i][encoded.mask[i]].mean(0) for i in clips])
        parts = [self.dropout(self.embedding(words)), self.context(context), self.clip(mean)]
        output, state = self.gru(torch.cat(parts, -1)[:, None], state)
        return self.classifier(output[:, 0]), state

    def forward(self, encoded: Memory, tokens: Tensor) -> Tensor:
        """(B, T, W) of the encoder and (B, L) tokens → (B, L, V)."""
        return self.scheduled(encoded, tokens, [True] * tokens.shape[1])

    def scheduled(self, encoded: Memory, tokens: Tensor, gold: Sequence[bool]) -> Tensor:
        """The definition: at step t the caption's word, or the argmax of the step before."""
        state = self.score.new_zeros(self.gru.num_layers, len(tokens), self.gru.hidden_size)
        logits: list[Tensor] = []
        for step, is_gold in enumerate(gold):
            word = tokens[:, step] if is_gold or step == 0 else logits[-1].argmax(-1)
            out, state = self.step(encoded, word, state)
            logits.append(out)
        return torch.stack(logits, 1)

    @staticmethod
    def renamed(ours: Named) -> Named:
        """Our weights, or gradients, by torch's names."""
        theirs = {
            name: value
            for name, value in ours.items()
            if name.split(".")[0] in ("embedding", "score", "context", "clip", "classifier")
        }
        theirs["attention.weight"] = torch.cat([ours["query.weight"], ours["key.weight"]], 1)
        theirs["attention.bias"] = ours["key.bias"]
        parts = [ours[f"{part}_gates.weight"] for part in ("word", "context", "clip")]
        theirs["gru.weight_ih_l0"] = torch.cat(parts, 1)
        theirs["gru.bias_ih_l0"] = ours["word_gates.bias"]
        for name, value in ours.items():
            part, _, rest = name.partition(".")
            kind = rest.split(".")[-1]
            if part == "cells":
                theirs[f"gru.{kind}_hh_l{rest[0]}"] = value
            elif part == "between":
                theirs[f"gru.{kind}_ih_l{int(rest[0]) + 1}"] = value
        return theirs


REFERENCES: dict[str, Any] = {"transformer": ReferenceTransformer, "gru": ReferenceGru}

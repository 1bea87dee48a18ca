"""SJTU's captioner: stored features → BiGRU → a decoder over words (SJTU 2.1, Table 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config.seq2seq import Seq2SeqModelConfig
from pipeline.models.captioners.base import Captioner, Inputs, Learning, Losses, Saved
from pipeline.models.decoders.gru import GruDecoder
from pipeline.models.decoders.stepper import Stepper
from pipeline.models.decoders.transformer import TransformerDecoder
from pipeline.models.decoders.words import WordDecoder
from pipeline.models.layers.bigru import BiGru
from pipeline.tensors import Batch, Memory, Padded, TokenIds
from pipeline.uncompiled import uncompiled

DECODERS: dict[str, type[TransformerDecoder] | type[GruDecoder]] = {
    "transformer": TransformerDecoder,
    "gru": GruDecoder,
}


class Seq2Seq(Captioner):
    """Reads one stored feature."""

    def __init__(
        self,
        settings: Seq2SeqModelConfig,
        inputs: Inputs,
        tokens: TokenIds,
        learning: Learning,
        saved: Saved | None = None,
    ) -> None:
        super().__init__(tokens, learning)
        (features,), config = inputs.widths, settings.seq2seq
        width = config.encoder_width
        self.feature_dropout = config.feature_dropout
        self.encoder = BiGru(features, width, config.encoder_layers, config.encoder_dropout)
        self.decoder: WordDecoder = DECODERS[config.decoder](2 * width, config, tokens)
        self.teacher_forcing = 1.0  # its probability in the next step
        self.step = 0

    def encode(self, features: Sequence[Padded]) -> Memory:
        """1 × (B, T, W) stored features → (B, T, D) of the decoder's width."""
        (feature,) = features
        # SJTU's code: the frozen CNN's dropout stays active in training
        values = F.dropout(feature.values, self.feature_dropout, self.training)
        encoded = self.encoder(Padded(values, feature.lengths))
        return Memory(self.decoder.read(encoded), feature.mask)

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        return self.decoder.logits(memory, tokens)

    def before_step(self, step: int, steps: int) -> None:
        """The probability of teacher forcing falls linearly, from 1 at the first step (SJTU 3)."""
        last = self.learning.teacher_forcing
        self.teacher_forcing = 1 - (1 - last) * step / max(1, steps - 1)
        self.step = step

    def loss(self, batch: Batch) -> Losses:
        """L_XE (eq. 3); by scheduled sampling if ``teacher_forcing`` is below 1."""
        memory = self.encode(batch.features)
        logits = self._scheduled if self.learning.teacher_forcing < 1 else self.logits
        return Losses(self.cross_entropy(logits(memory, batch.tokens[:, :-1]), batch))

    @uncompiled  # the step number would recompile it
    def _scheduled(self, memory: Memory, tokens: Tensor) -> Tensor:
        gold = gold_steps(tokens.shape[1], self.teacher_forcing, self.learning.seed, self.step)
        return self.decoder.scheduled(memory, tokens, gold)

    def stepper(self) -> Stepper:
        return self.decoder.stepper()


def gold_steps(length: int, probability: float, seed: int, step: int) -> list[bool]:
    """Which time steps of a training step are teacher-forced: one draw each, for the whole batch.

    Drawn on the CPU from ``seed`` and ``step`` alone: a resumed run draws the same.
    """
    digest = hashlib.sha256(f"teacher forcing, {seed}, {step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4]))
    return (torch.rand(length, generator=generator) < probability).tolist()

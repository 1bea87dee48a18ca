"""SJTU's captioner: stored features → BiGRU → a decoder over words (SJTU 2.1, Table 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config.plans import CaptionerPlan
from pipeline.errors import EarwitnessError
from pipeline.losses.cross_entropy import cross_entropy
from pipeline.models.captioners.base import Captioner
from pipeline.models.decoders.gru import GruDecoder
from pipeline.models.decoders.stepper import Stepper
from pipeline.models.decoders.transformer import TransformerDecoder
from pipeline.models.decoders.words import WordDecoder
from pipeline.models.layers.bigru import BiGru
from pipeline.tensors import Batch, Memory, Padded, TokenIds

DECODERS: dict[str, type[TransformerDecoder] | type[GruDecoder]] = {
    "transformer": TransformerDecoder,
    "gru": GruDecoder,
}


class Seq2SeqLosses(NamedTuple):
    """Scalars of one batch."""

    total: Tensor  # L_XE, eq. 3


class Seq2Seq(Captioner):
    """The captioner of one plan.

    Args:
        width: W of the one stored feature.

    Raises:
        EarwitnessError: sizes that do not fit each other.
    """

    def __init__(self, plan: CaptionerPlan, width: int, tokens: TokenIds) -> None:
        super().__init__()
        assert plan.seq2seq is not None
        settings = plan.seq2seq
        self.plan, self.tokens = plan, tokens
        self.feature_dropout = settings.feature_dropout
        self.encoder = BiGru(
            width, settings.encoder_width, settings.encoder_layers, settings.encoder_dropout
        )
        self.decoder: WordDecoder = DECODERS[settings.decoder](
            2 * settings.encoder_width, settings, tokens
        )
        self.teacher_forcing = 1.0  # probability of it in the step to come
        self.step = 0

    @classmethod
    def from_plan(
        cls,
        plan: CaptionerPlan,
        widths: Sequence[int],
        text_width: int | None,
        tokens: TokenIds,
    ) -> Seq2Seq:
        if len(widths) != 1:
            raise EarwitnessError(
                f"{plan.name}: {len(widths)} stored features, but seq2seq reads one; "
                "name one feature"
            )
        return cls(plan, widths[0], tokens)

    @classmethod
    def from_form(cls, plan: CaptionerPlan, widths: Sequence[int], form: dict[str, Any]) -> Seq2Seq:
        return cls.from_plan(plan, widths, None, TokenIds(**form["tokens"]))

    def form(self) -> dict[str, Any]:
        return {"tokens": self.tokens._asdict()}

    def encode(self, features: Sequence[Padded]) -> Memory:
        """1 × (B, T, W) stored features → (B, T, D), D being what the decoder reads."""
        (feature,) = features
        # SJTU's code: the dropout of the frozen CNN stays on
        values = F.dropout(feature.values, self.feature_dropout, self.training)
        encoded = self.encoder(Padded(values, feature.lengths))
        return Memory(self.decoder.read(encoded), feature.mask)

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        return self.decoder.logits(memory, tokens)

    def before_step(self, step: int, steps: int) -> None:
        """The probability of teacher forcing falls linearly, from 1 at the first step (SJTU 3)."""
        last = self.plan.training.teacher_forcing
        self.teacher_forcing = 1 - (1 - last) * step / max(1, steps - 1)
        self.step = step

    def loss(self, batch: Batch) -> Seq2SeqLosses:
        """Cross-entropy with label smoothing, by scheduled sampling where the plan asks for it."""
        memory = self.encode(batch.features)
        read, training = batch.tokens[:, :-1], self.plan.training
        if training.teacher_forcing < 1:
            logits = self._scheduled(memory, read)
        else:
            logits = self.logits(memory, read)
        loss = cross_entropy(logits, batch.tokens[:, 1:], self.tokens.pad, training.label_smoothing)
        return Seq2SeqLosses(loss)

    @torch.compiler.disable  # reads what differs in each step
    def _scheduled(self, memory: Memory, tokens: Tensor) -> Tensor:
        gold = gold_steps(tokens.shape[1], self.teacher_forcing, self.plan.seed, self.step)
        return self.decoder.scheduled(memory, tokens, gold)

    def stepper(self) -> Stepper:
        return self.decoder.stepper()


def gold_steps(length: int, probability: float, seed: int, step: int) -> list[bool]:
    """Which time steps of a training step are teacher-forced: one draw each, for the whole batch.

    Drawn on the CPU from ``seed`` and ``step`` alone: a run that is resumed draws the same.
    """
    digest = hashlib.sha256(f"teacher forcing, {seed}, {step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4]))
    return (torch.rand(length, generator=generator) < probability).tolist()

"""RLSSR's captioner: a CNN10 trained end to end, a Transformer encoder, and a Transformer decoder
whose states are to reconstruct what the CNN heard (Koh et al. 2022, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.config.plans import CaptionerPlan
from pipeline.config.rlssr import RlssrConfig
from pipeline.encoders.cnn import frequency_mean
from pipeline.encoders.spectrogram import spec_augment
from pipeline.errors import EarwitnessError
from pipeline.losses.cross_entropy import cross_entropy
from pipeline.losses.reconstruction import DISTANCES, pooled_sound, pooled_states
from pipeline.models.captioners.base import Captioner
from pipeline.models.decoders.stepper import Stepper
from pipeline.models.decoders.transformer import TransformerDecoder, sinusoids
from pipeline.models.towers.panns import CnnTower
from pipeline.models.towers.registry import build_sound_tower
from pipeline.tensors import Batch, Memory, Padded, TokenIds

POSITIONS = 4096  # frames whose codes are kept; longer sound makes its own


class RlssrLosses(NamedTuple):
    """Scalars of one batch."""

    total: Tensor  # L, eq. 2
    cross_entropy: Tensor  # L_ce
    reconstruction: Tensor | None  # L_RLSSR, eq. 1, where there is one


class RlssrEncoder(nn.Module):
    """Frames of the CNN → what the decoder attends to (RLSSR 3.1), post-norm as Vaswani's.

    Args:
        inputs: W of the frames.
    """

    positions: Tensor

    def __init__(self, inputs: int, settings: RlssrConfig) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, settings.width)
        self.drop = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                settings.width,
                settings.heads,
                settings.feed_forward,
                settings.dropout,
                batch_first=True,
            )
            for _ in range(settings.encoder_layers)
        )
        self.register_buffer("positions", sinusoids(POSITIONS, settings.width), persistent=False)

    def forward(self, frames: Padded) -> Memory:
        """(B, T, W) → (B, T, D); without layers it is the projection alone."""
        hidden, mask = self.project(frames.values), frames.mask
        if self.layers:
            hidden = self.drop(hidden + self._positions(hidden))
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=~mask)
        return Memory(hidden, mask)

    def _positions(self, hidden: Tensor) -> Tensor:
        """(T, D)."""
        length, width = hidden.shape[1:]
        if length <= POSITIONS:
            return self.positions[:length]
        return sinusoids(length, width).to(hidden.device)


class Rlssr(Captioner):
    """The captioner of one plan.

    Gradients of the reconstruction's distance go into both sides, the decoder's states and the
    CNN, as eq. 1 has it; ``stop_gradient`` keeps them out of the CNN.

    Args:
        pretrained: False for random weights that a trained captioner's replace: no file is read.

    Raises:
        EarwitnessError: sizes that do not fit each other, a stored feature that the tower does not
            read, or the tower's weights are not to be had.
    """

    def __init__(
        self, plan: CaptionerPlan, width: int, tokens: TokenIds, *, pretrained: bool
    ) -> None:
        super().__init__()
        assert plan.rlssr is not None
        settings = plan.rlssr
        _check(plan)
        self.plan, self.settings, self.tokens = plan, settings, tokens
        self.tower = _tower(plan, width, pretrained)
        # first, so that its error of width and heads is the one that is told
        self.decoder = TransformerDecoder(None, settings, tokens, "rlssr")
        self.encoder = RlssrEncoder(self.tower.width, settings)
        self.distance = DISTANCES.get(settings.reconstruction.distance)
        self.reconstruct = nn.Linear(settings.width, self.tower.width) if self.distance else None

    @classmethod
    def from_plan(
        cls,
        plan: CaptionerPlan,
        widths: Sequence[int],
        text_width: int | None,
        tokens: TokenIds,
    ) -> Rlssr:
        return cls(plan, widths[0], tokens, pretrained=True)

    @classmethod
    def from_form(cls, plan: CaptionerPlan, widths: Sequence[int], form: dict[str, Any]) -> Rlssr:
        return cls(plan, widths[0], TokenIds(**form["tokens"]), pretrained=False)

    def form(self) -> dict[str, Any]:
        return {"tokens": self.tokens._asdict()}

    def encode(self, features: Sequence[Padded]) -> Memory:
        """1 × (B, T, M) stored log-mel → (B, T', D)."""
        maps, lengths = self._hear(features)
        memory: Memory = self.encoder(frequency_mean(maps, lengths))
        return memory

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        return self.decoder.logits(memory, tokens)

    def loss(self, batch: Batch) -> RlssrLosses:
        """L = α L_ce + β L_RLSSR, eq. 2; teacher-forced."""
        maps, lengths = self._hear(batch.features)
        memory = self.encoder(frequency_mean(maps, lengths))
        read, wanted = batch.tokens[:, :-1], batch.tokens[:, 1:]
        states = self.decoder.states(memory, read)
        logits = self.decoder.classifier(states[-1])
        smoothing = self.plan.training.label_smoothing
        entropy = cross_entropy(logits, wanted, self.tokens.pad, smoothing)
        total = self.settings.cross_entropy_weight * entropy
        if self.distance is None:
            return RlssrLosses(total, entropy, None)
        distance = self._reconstruction(states, wanted != self.tokens.pad, maps, lengths)
        return RlssrLosses(
            total + self.settings.reconstruction.weight * distance, entropy, distance
        )

    def stepper(self) -> Stepper:
        return self.decoder.stepper()

    def _hear(self, features: Sequence[Padded]) -> tuple[Tensor, Tensor]:
        """1 × (B, T, M) → (B, W, T', M') maps of the CNN, and (B,) valid frames."""
        (stored,) = features
        if self.training and self.plan.spec_augment is not None:
            stored = self._augmented(stored)
        return self.tower.maps(stored)

    @torch.compiler.disable  # its draws are made in numpy
    def _augmented(self, stored: Padded) -> Padded:
        """SpecAugment, anew for every clip of every batch.

        Its seeds are of torch's generator on the CPU, which checkpoints hold: a run that is resumed
        masks the same.
        """
        assert self.plan.spec_augment is not None
        seeds = torch.randint(2**62, (len(stored.values),))
        values = spec_augment(stored.values, stored.lengths, self.plan.spec_augment, seeds)
        return Padded(values, stored.lengths)

    def _reconstruction(
        self, states: Sequence[Tensor], written: Tensor, maps: Tensor, lengths: Tensor
    ) -> Tensor:
        """L_RLSSR, in float32.

        Args:
            states: of each decoder layer, (B, L, D). written: (B, L) bool, that give a token.
            maps: (B, W, T, M) of the CNN. lengths: (B,) int64.
        """
        assert self.distance is not None and self.reconstruct is not None
        settings = self.settings.reconstruction
        heard = pooled_sound(maps, lengths)
        if settings.stop_gradient:
            heard = heard.detach()
        place = states[-1 if settings.place is None else settings.place - 1]
        told = self.reconstruct(pooled_states(place, written))
        return self.distance(told.float(), heard)


def _check(plan: CaptionerPlan) -> None:
    if plan.training.teacher_forcing < 1:
        raise EarwitnessError(
            f"{plan.name}: rlssr is trained by teacher forcing alone; set its training's "
            f"teacher_forcing to 1 (now {plan.training.teacher_forcing:g})"
        )


def _tower(plan: CaptionerPlan, width: int, pretrained: bool) -> CnnTower:
    assert plan.sound is not None and plan.sound_input is not None
    weights = Path(plan.weights) if plan.weights else None
    tower = build_sound_tower(plan.sound, plan.sound_input, weights, pretrained=pretrained)
    if not isinstance(tower, CnnTower):
        raise EarwitnessError(
            f"{plan.name}: rlssr pools a CNN's maps over frequency; name a panns tower, not one of "
            f"module {plan.sound.module}"
        )
    mels = tower.encoder.bn0.num_features
    if mels != width:
        raise EarwitnessError(
            f"{plan.name}: the stored {plan.features[0]} is {width} wide, its settings say {mels} "
            "mels; run `dvc repro extract`"
        )
    tower.fc1.requires_grad_(False)  # of a retriever's pooling
    return tower

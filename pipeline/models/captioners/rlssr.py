"""RLSSR's captioner: a CNN10 trained end to end, a Transformer encoder, and a Transformer decoder
whose states reconstruct the CNN's output (Koh et al. 2022, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline import ranks
from pipeline.config.retrievers import TowerSetupConfig
from pipeline.config.rlssr import RlssrConfig, RlssrModelConfig
from pipeline.encoders.cnn import frequency_mean
from pipeline.encoders.spectrogram import spec_augment
from pipeline.errors import EarwitnessError
from pipeline.losses.reconstruction import DISTANCES, pooled_sound, pooled_states
from pipeline.models.captioners.base import Captioner, Inputs, Learning, Saved
from pipeline.models.decoders.stepper import Stepper
from pipeline.models.decoders.transformer import TransformerDecoder, sinusoids
from pipeline.models.towers.panns import CnnTower
from pipeline.models.towers.registry import build_sound_tower
from pipeline.tensors import Batch, Memory, Padded, TokenIds
from pipeline.uncompiled import uncompiled

POSITIONS = 4096  # frames whose position codes are kept; longer sound computes them


class RlssrLosses(NamedTuple):
    """Scalars of one batch."""

    total: Tensor  # L, eq. 2
    cross_entropy: Tensor  # L_ce
    reconstruction: Tensor | None  # L_RLSSR, eq. 1; None without a distance


class RlssrEncoder(nn.Module):
    """Frames of the CNN → what the decoder attends to (RLSSR 3.1); post-norm as in Vaswani et al.

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
        """(B, T, W) → (B, T, D); without layers, the projection alone."""
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
    """Reads one stored log-mel.

    The reconstruction trains both the decoder's states and the CNN, as in eq. 1; ``stop_gradient``
    keeps its gradient out of the CNN.
    """

    def __init__(
        self,
        settings: RlssrModelConfig,
        inputs: Inputs,
        tokens: TokenIds,
        learning: Learning,
        saved: Saved | None = None,
    ) -> None:
        super().__init__(tokens, learning)
        if learning.teacher_forcing < 1:
            raise EarwitnessError(
                "rlssr is trained by teacher forcing alone; set its training's teacher_forcing to "
                f"1 (now {learning.teacher_forcing:g})"
            )
        self.settings, self.spec_augment = settings.rlssr, settings.spec_augment
        self.tower = _tower(settings.tower, inputs, pretrained=saved is None)
        # before the encoder, for its error about width and heads
        self.decoder = TransformerDecoder(None, self.settings, tokens, "rlssr")
        self.encoder = RlssrEncoder(self.tower.width, self.settings)
        self.distance = DISTANCES.get(self.settings.reconstruction.distance)
        self.reconstruct = (
            nn.Linear(self.settings.width, self.tower.width) if self.distance else None
        )

    def encode(self, features: Sequence[Padded]) -> Memory:
        """1 × (B, T, M) stored log-mel → (B, T', D)."""
        maps, lengths = self._maps(features)
        memory: Memory = self.encoder(frequency_mean(maps, lengths))
        return memory

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        return self.decoder.logits(memory, tokens)

    def loss(self, batch: Batch) -> RlssrLosses:
        """L = α L_ce + β L_RLSSR, eq. 2; teacher-forced."""
        maps, lengths = self._maps(batch.features)
        memory = self.encoder(frequency_mean(maps, lengths))
        states = self.decoder.states(memory, batch.tokens[:, :-1])
        entropy = self.cross_entropy(self.decoder.classifier(states[-1]), batch)
        total = self.settings.cross_entropy_weight * entropy
        if self.distance is None:
            return RlssrLosses(total, entropy, None)
        written = batch.tokens[:, 1:] != self.tokens.pad
        distance = self._reconstruction(states, written, maps, lengths)
        return RlssrLosses(
            total + self.settings.reconstruction.weight * distance, entropy, distance
        )

    def stepper(self) -> Stepper:
        return self.decoder.stepper()

    def _maps(self, features: Sequence[Padded]) -> tuple[Tensor, Tensor]:
        """1 × (B, T, M) → (B, W, T', M') maps of the CNN, and (B,) valid frames."""
        (stored,) = features
        if self.training and self.spec_augment is not None:
            stored = self._augmented(stored)
        return self.tower.maps(stored)

    @uncompiled  # its draws are made in numpy
    def _augmented(self, stored: Padded) -> Padded:
        """New SpecAugment masks for every clip of every batch.

        The seeds are from torch's CPU generator, which checkpoints hold: a resumed run masks the
        same.
        """
        assert self.spec_augment is not None
        seeds = torch.randint(2**62, (len(stored.values),))
        values = spec_augment(stored.values, stored.lengths, self.spec_augment, seeds)
        return Padded(values, stored.lengths)

    def _reconstruction(
        self, states: Sequence[Tensor], written: Tensor, maps: Tensor, lengths: Tensor
    ) -> Tensor:
        """L_RLSSR, in float32.

        Args:
            states: (B, L, D) of each decoder layer. written: (B, L) bool, false for padding.
            maps: (B, W, T, M) of the CNN. lengths: (B,) int64, valid frames.
        """
        assert self.distance is not None and self.reconstruct is not None
        settings = self.settings.reconstruction
        sound = pooled_sound(maps, lengths)
        if settings.stop_gradient:
            sound = sound.detach()
        place = states[-1 if settings.place is None else settings.place - 1]
        text = self.reconstruct(pooled_states(place, written))
        return ranks.weighted(self.distance(text.float(), sound), len(sound))


def _tower(setup: TowerSetupConfig, inputs: Inputs, pretrained: bool) -> CnnTower:
    weights = Path(setup.weights) if setup.weights else None
    tower = build_sound_tower(setup.settings, setup.input, weights, pretrained=pretrained)
    if not isinstance(tower, CnnTower):
        raise EarwitnessError(
            "rlssr pools a CNN's maps over frequency; name a panns tower, not one of module "
            f"{setup.settings.module}"
        )
    mels, (name,), (width,) = tower.encoder.bn0.num_features, inputs.names, inputs.widths
    if mels != width:
        raise EarwitnessError(
            f"the stored {name} is {width} wide, but its settings say {mels} mels; run `dvc repro "
            "extract`"
        )
    tower.fc1.requires_grad_(False)  # a retriever's pooling, not used here
    return tower

"""The bi-encoder: sound and text, each encoded alone, meet in one space (SJTU 2.2, eq. 4–6).

Each side is a trained tower, or stored features of frozen encoders whose means are projected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config import BiEncoder as Settings
from pipeline.losses.contrastive import two_way_infonce
from pipeline.models.batch import Padded
from pipeline.towers.base import SoundTower, TextTowerModel

MAX_SCALE = 100.0  # of 1 / τ, as CLIP's


class Tokens(NamedTuple):
    """Captions as a text tower reads them."""

    ids: Tensor  # (B, L) int64, padded
    lengths: Tensor  # (B,) int64


class Pairs(NamedTuple):
    """One training batch of B (clip, caption) pairs."""

    sound: tuple[Padded, ...]  # E × (B, T, W) stored features, E = 1 for a tower
    text: Tokens | Padded  # of a tower, or (B, L, W) stored features
    clips: Tensor  # (B,) int64: captions of one clip share it


class Losses(NamedTuple):
    """Scalars; ``total`` is the sum of both directions (eq. 6)."""

    total: Tensor
    audio_to_text: Tensor
    text_to_audio: Tensor
    temperature: Tensor  # τ


class StoredMeans(nn.Module):
    """Stored features as one embedding: each one's mean over time, layer-normed, side by side.

    Has no weights: activations of different encoders differ by orders of magnitude, and the norm
    makes them alike before the one trained projection.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        """``widths``: W of each of the E features."""
        super().__init__()
        self.widths = tuple(widths)
        self.embedding_width = sum(widths)

    def forward(self, features: Sequence[Padded]) -> Tensor:
        """E × (B, T, W) → (B, ΣW) float32."""
        return torch.cat(
            [F.layer_norm(mean(padded), padded.values.shape[-1:]) for padded in features], -1
        )


def mean(padded: Padded) -> Tensor:
    """(B, T, W) → (B, W) float32, over the valid frames; zeros where there are none."""
    weights = padded.mask / padded.lengths.clamp(min=1)[:, None]  # (B, T)
    with torch.autocast(padded.values.device.type, enabled=False):
        return (weights[:, None] @ padded.values.float())[:, 0]


class BiEncoder(nn.Module):
    """Two sides, a linear projection each, and the trainable temperature.

    Attributes:
        log_scale: () log(1 / τ), at most log 100.
    """

    def __init__(
        self,
        sound: SoundTower | StoredMeans,
        text: TextTowerModel | StoredMeans,
        settings: Settings,
    ) -> None:
        super().__init__()
        self.sound, self.text, self.settings = sound, text, settings
        self.sound_projection = nn.Linear(sound.embedding_width, settings.width)
        self.text_projection = nn.Linear(text.embedding_width, settings.width)
        self.log_scale = nn.Parameter(
            torch.tensor(-math.log(settings.temperature)).clamp(max=math.log(MAX_SCALE)),
            requires_grad=settings.learn_temperature,
        )

    def embed_sound(self, sound: Sequence[Padded]) -> Tensor:
        """E × (B, T, W) stored features → (B, D) float32 unit vectors (eq. 4, 5)."""
        if isinstance(self.sound, StoredMeans):
            embedding: Tensor = self.sound(sound)
        else:
            embedding = self.sound.pool(self.sound.frames(sound[0]))
        return _unit(embedding, self.sound_projection)

    def embed_text(self, text: Tokens | Padded) -> Tensor:
        """B captions' tokens or (B, L, W) stored features → (B, D) float32 unit vectors."""
        if isinstance(text, Tokens):
            return _unit(self.text(text.ids, text.lengths), self.text_projection)
        return _unit(self.text([text]), self.text_projection)

    def loss(self, batch: Pairs) -> Losses:
        """InfoNCE both ways; captions of the same clip are no negatives, where so set (eq. 6)."""
        both = two_way_infonce(
            self.embed_sound(batch.sound),
            self.embed_text(batch.text),
            self.log_scale.exp(),
            batch.clips if self.settings.mask_same_clip else None,
        )
        total = both.audio_to_text + both.text_to_audio
        return Losses(total, *both, (-self.log_scale.detach()).exp())

    def before_step(self, step: int, steps: int) -> None:
        """Nothing changes on the way."""
        return

    @torch.no_grad()
    def after_step(self) -> None:
        """Keeps 1 / τ within bounds: beyond them a few pairs are all that is learned from."""
        self.log_scale.clamp_(max=math.log(MAX_SCALE))


def _unit(embedding: Tensor, projection: nn.Linear) -> Tensor:
    """(B, W) → (B, D), in float32: bf16 has too few digits for vectors that are ranked."""
    with torch.autocast(embedding.device.type, enabled=False):
        return F.normalize(projection(embedding.float()), dim=-1)

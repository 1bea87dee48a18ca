"""The bi-encoder: sound and text embedded separately in one space (SJTU 2.2, eq. 4–6; CMU 5.2).

Each side is a trained tower, or the projected means of frozen encoders' stored features; of a
space, of which nothing is trained, see models/tags.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline import ranks
from pipeline.config.retrievers import BiEncoderConfig
from pipeline.config.sides import (
    CentredTextSide,
    EncoderSoundSide,
    SoundSide,
    SoundTowerSide,
    StoredSoundSide,
    StoredTextSide,
    TextSide,
    TextTowerSide,
)
from pipeline.errors import EarwitnessError
from pipeline.losses.registry import TEMPERATURE, retrieval_loss
from pipeline.models.layers.pooling import mean
from pipeline.models.tags import CentredText, TagSound
from pipeline.tensors import Padded, Tokens

MAX_SCALE = 100.0  # of 1 / τ, as CLIP's


class Pairs(NamedTuple):
    """One training batch of B (clip, caption) pairs."""

    sound: tuple[Padded, ...]  # E × (B, T, W) stored features, E = 1 for a tower
    text: Tokens | tuple[Padded, ...]  # of a tower, or E × (B, L, W) stored features
    clips: Tensor  # (B,) int64: captions of one clip share it
    whole: int = 0  # pairs of the batch whose part this is; 0: this is all (pipeline/ranks.py)


class BiEncoderLosses(NamedTuple):
    """Scalars; ``total`` is the sum of both directions (eq. 6)."""

    total: Tensor
    audio_to_text: Tensor
    text_to_audio: Tensor
    temperature: Tensor | None  # τ, of losses that read it


class Side(Protocol):
    """Clips or captions to embeddings: a trained tower, or :class:`StoredMeans`."""

    embedding_width: int

    def embed(self, inputs: Any, /) -> Tensor:
        """B clips or captions → (B, embedding_width)."""


class StoredMeans:
    """Stored features as one embedding: their means over time, concatenated; without weights.

    ``norm``, a layer norm of each mean, is for a projection that follows: activations of different
    encoders differ by orders of magnitude.
    """

    def __init__(self, widths: Sequence[int], norm: bool = True) -> None:
        """``widths``: W of each of the E features."""
        self.norm = norm
        self.embedding_width = sum(widths)

    def embed(self, features: Sequence[Padded]) -> Tensor:
        """E × (B, T, W) → (B, ΣW) float32."""
        means = [mean(padded) for padded in features]
        if self.norm:
            means = [F.layer_norm(each, each.shape[-1:]) for each in means]
        return torch.cat(means, -1)


class BiEncoder(nn.Module):
    """Two sides, a linear projection of each, and a trainable temperature.

    CMU's variants omit projections and add one linear layer that both sides share.

    Attributes:
        width: D of the common space.
        log_scale: () log(1 / τ), at most log 100; of losses that read it.
    """

    def __init__(self, sound: Side, text: Side, settings: BiEncoderConfig) -> None:
        """
        Raises:
            EarwitnessError: the two embeddings are not of one width.
        """
        super().__init__()
        self.sound, self.text, self.settings = sound, text, settings
        self.sound_projection = _projection(sound.embedding_width, settings, "sound")
        self.text_projection = _projection(text.embedding_width, settings, "text")
        widths = [
            settings.width if isinstance(projection, nn.Linear) else side.embedding_width
            for side, projection in ((sound, self.sound_projection), (text, self.text_projection))
        ]
        if widths[0] != widths[1]:
            raise EarwitnessError(
                f"biencoder.project: {settings.project} makes sound {widths[0]} wide and text "
                f"{widths[1]}; give the tower, or biencoder.width, the other's width"
            )
        self.shared = nn.Linear(widths[0], settings.shared) if settings.shared else nn.Identity()
        self.width = settings.shared or widths[0]
        self.log_scale = nn.Parameter(
            torch.tensor(-math.log(settings.temperature)).clamp(max=math.log(MAX_SCALE)),
            requires_grad=settings.learn_temperature and settings.loss in TEMPERATURE,
        )

    def embed_sound(self, sound: Sequence[Padded]) -> Tensor:
        """E × (B, T, W) stored features → (B, D) float32, unit vectors for cosine (eq. 4, 5)."""
        return self._common(self.sound.embed(sound), self.sound_projection)

    def embed_text(self, text: Tokens | Sequence[Padded]) -> Tensor:
        """B captions' tokens or E × (B, L, W) stored features → (B, D) float32, as the sound's."""
        return self._common(self.text.embed(text), self.text_projection)

    def loss(self, batch: Pairs) -> BiEncoderLosses:
        """Both directions (eq. 6); with ``mask_same_clip``, a clip's captions are no negatives."""
        settings = self.settings
        audio = ranks.gathered(self.embed_sound(batch.sound))
        text = ranks.gathered(self.embed_text(batch.text))
        # unmasked, each pair is of a clip of its own
        clips = (
            ranks.gathered(batch.clips)
            if settings.mask_same_clip
            else torch.arange(len(audio), device=audio.device)
        )
        both = retrieval_loss(
            settings.loss,
            audio,
            text,
            clips,
            scale=self.log_scale.exp(),
            margin=settings.margin,
            negatives=settings.negatives,
        )
        temperature = (-self.log_scale.detach()).exp() if settings.loss in TEMPERATURE else None
        return BiEncoderLosses(both.audio_to_text + both.text_to_audio, *both, temperature)

    def before_step(self, step: int, steps: int) -> None:
        """Nothing changes with the step."""
        return

    @torch.no_grad()
    def after_step(self) -> None:
        """Clamps 1 / τ: with more, a few pairs would dominate the loss."""
        self.log_scale.clamp_(max=math.log(MAX_SCALE))

    def _common(self, embedding: Tensor, projection: nn.Module) -> Tensor:
        """(B, W) → (B, D) in float32: bf16 is too coarse for ranking."""
        with torch.autocast(embedding.device.type, enabled=False):
            common: Tensor = self.shared(projection(embedding.float()))
            return F.normalize(common, dim=-1) if self.settings.similarity == "cosine" else common


def build_biencoder(
    sound: SoundSide,
    text: TextSide,
    settings: BiEncoderConfig,
    *,
    sound_widths: Sequence[int],
    text_widths: Sequence[int],
    network: dict[str, Any],
    pretrained: bool,
) -> BiEncoder:
    """The bi-encoder of a plan's two sides.

    Args:
        sound_widths: W of each stored feature of the sound side.
        text_widths: W of each stored feature of the text side.
        network: the text tower's; see :func:`pipeline.models.towers.text.text_network`.
        pretrained: False for random weights, to be replaced by a trained retriever's.

    Raises:
        EarwitnessError: weights are not available, or do not fit their tower.
    """
    # the text first: the order decides which random weights each side gets
    text_side = _text_side(text, settings, text_widths, network, pretrained)
    sound_side = _sound_side(
        sound, settings, sound_widths, text_side.embedding_width, pretrained=pretrained
    )
    return BiEncoder(sound_side, text_side, settings)


def _sound_side(
    side: SoundSide,
    settings: BiEncoderConfig,
    widths: Sequence[int],
    text_width: int,
    pretrained: bool,
) -> Side:
    match side:
        case SoundTowerSide():
            from pipeline.models.towers.registry import build_sound_tower

            trained = Path(side.weights) if side.weights else None
            return build_sound_tower(
                side.tower, side.input, trained, widths=widths, pretrained=pretrained
            )
        case StoredSoundSide():
            return StoredMeans(widths, norm=_has_projection(settings, "sound"))
        case EncoderSoundSide():
            if side.tags is None:
                return StoredMeans(widths, norm=False)
            return TagSound(widths[0], text_width, side.tags)


def _text_side(
    side: TextSide,
    settings: BiEncoderConfig,
    widths: Sequence[int],
    network: dict[str, Any],
    pretrained: bool,
) -> Side:
    match side:
        case TextTowerSide():
            from pipeline.models.towers.text import build_text_tower

            return build_text_tower(side.tower, network, pretrained=pretrained)
        case StoredTextSide():
            return StoredMeans(widths, norm=_has_projection(settings, "text"))
        case CentredTextSide():
            return CentredText(*widths)


def _has_projection(settings: BiEncoderConfig, side: Literal["sound", "text"]) -> bool:
    """Whether ``side`` has a projection to ``settings.width``."""
    return settings.project in ("both", side)


def _projection(
    embedding: int, settings: BiEncoderConfig, side: Literal["sound", "text"]
) -> nn.Linear | nn.Identity:
    projects = _has_projection(settings, side)
    return nn.Linear(embedding, settings.width) if projects else nn.Identity()

"""What every trained tower of a retriever is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pipeline.models.batch import Padded


class SoundTower(nn.Module, ABC):
    """A stored log-mel, waveform or filter bank to frames, and frames to a clip's embedding.

    A clip's frames depend on its own stored values alone, not on what it is batched with, up to
    float rounding.
    """

    width: int  # D of the frames
    embedding_width: int  # of a clip's embedding
    reduction: float  # stored frames that one frame stands for

    @abstractmethod
    def frames(self, stored: Padded) -> Padded:
        """(B, T, W) stored values of any length → (B, T', D); each clip has at least one frame."""

    def embed(self, stored: Sequence[Padded]) -> Tensor:
        """E × (B, T, W) stored features → (B, embedding_width); most towers read one."""
        return self.pool(self.frames(stored[0]))

    @abstractmethod
    def pool(self, frames: Padded) -> Tensor:
        """(B, T', D) of :meth:`frames` → (B, embedding_width): the pretrained model's own way."""


class TextTowerModel(nn.Module, ABC):
    """Token ids to a caption's embedding."""

    embedding_width: int

    @abstractmethod
    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) int64 ids, padded, and (B,) int64 → (B, embedding_width)."""

    @abstractmethod
    def form(self) -> dict[str, Any]:
        """All that is needed, beside its settings, to build it again with no network; JSON."""

"""The interfaces of a retriever's trained towers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from pipeline.tensors import Padded, Tokens


class TowerOutput(NamedTuple):
    """The output of a sound tower for B clips."""

    frames: Padded  # (B, T', D); each clip has at least one frame
    embedding: Tensor  # (B, embedding_width), pooled as in the pretrained model


class SoundTower(nn.Module, ABC):
    """A stored log-mel, waveform or filter bank to frames and a clip's embedding.

    A clip's frames depend on its stored values alone, not on the batch, up to float rounding.
    """

    width: int  # D of the frames
    embedding_width: int  # of a clip's embedding
    reduction: float  # stored frames per frame

    @abstractmethod
    def forward(self, stored: Sequence[Padded]) -> TowerOutput:
        """E × (B, T, W) stored features of any length; most towers read one."""

    def embed(self, stored: Sequence[Padded]) -> Tensor:
        """E × (B, T, W) → (B, embedding_width)."""
        embedding: Tensor = self(stored).embedding
        return embedding


class TextTowerModel(nn.Module, ABC):
    """Token ids to a caption's embedding."""

    embedding_width: int

    @abstractmethod
    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) int64 ids, padded, and (B,) int64 → (B, embedding_width)."""

    def embed(self, captions: Tokens) -> Tensor:
        """B captions → (B, embedding_width)."""
        embedding: Tensor = self(*captions)
        return embedding

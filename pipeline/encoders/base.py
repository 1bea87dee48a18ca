"""The interfaces of frozen encoders: waveforms to frames, captions to embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor, nn

from pipeline.config.encoders import SpecAugmentConfig
from pipeline.encoders.spectrogram import LogMel, spec_augment
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded


class Masks(NamedTuple):
    """SpecAugment's masks for a batch of windows."""

    settings: SpecAugmentConfig
    seeds: Tensor  # (B,) int64, one a clip and view


class SoundEncoder(nn.Module, ABC):
    """Waveforms to frames.

    A clip's valid frames depend on its samples alone, not on the batch, up to float rounding; each
    encoder's docstring says how it pads.
    """

    sample_rate: int  # Hz, of the waveforms it takes
    width: int  # D
    frame_seconds: float  # between two frames; of a pooled encoder: the window's length
    pooled: bool = False  # one frame a window: a clip's windows are averaged, not joined
    augments: bool = False  # computes a log-mel, which SpecAugment can mask

    @abstractmethod
    def forward(self, waveform: Tensor, lengths: Tensor, masks: Masks | None = None) -> Padded:
        """Encodes a batch of windows.

        Args:
            waveform: (B, samples) float32 in [-1, 1]; samples past a clip's length are ignored.
            lengths: (B,) int64, valid samples, each at least 1.
            masks: of the log-mel, before the frozen trunk; None: the clean view.

        Returns:
            (B, T, D) frames; each clip has at least one.

        Raises:
            EarwitnessError: an encoder without a log-mel gets ``masks``.
        """


class SpectrogramEncoder(SoundEncoder):
    """An encoder that is a log-mel front end in float32, then a trunk."""

    augments = True
    logmel: LogMel

    def frontend(self, waveform: Tensor, lengths: Tensor) -> Padded:
        """(B, samples) float32 and (B,) int64 → (B, T, M) log-mel in dB with (B,) valid frames."""
        return self.logmel(waveform, lengths)

    def places(self, lengths: Tensor, frames: int) -> Tensor | None:
        """(B, T): the valid frame that each log-mel frame repeats, negative for none.

        None if this encoder does not repeat clips. ``lengths``: (B,) int64, samples.
        """
        return None

    @abstractmethod
    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        """(B, T, M) log-mel of :meth:`frontend`, (B,) valid frames → (B, T', D) frames."""

    def forward(self, waveform: Tensor, lengths: Tensor, masks: Masks | None = None) -> Padded:
        values, frames = self.frontend(waveform, lengths)
        if masks is not None:
            places = self.places(lengths, values.shape[1])
            values = spec_augment(values, frames, *masks, places)
        return self.trunk(values, frames)


def refuse_masks(masks: Masks | None, encoder: str) -> None:
    """For encoders without a log-mel: an error if there are ``masks``."""
    if masks is not None:
        raise EarwitnessError(f"{encoder} has no spectrogram to mask; set its views to 0")


class Packed(NamedTuple):
    """Sequences of one width, concatenated in the order of the captions."""

    values: NDArray[np.floating]  # (total, D)
    lengths: NDArray[np.int64]  # (N,)


class TextEncoder(ABC):
    """Captions to token embeddings, or to one embedding each."""

    width: int  # D
    device: torch.device = torch.device("cpu")  # where it computes

    def to(self, device: torch.device) -> None:
        """Moves it, if it computes elsewhere than on the CPU."""
        return None

    @abstractmethod
    def encode(self, captions: Sequence[str], dtype: DTypeLike = np.float32) -> Packed:
        """Encodes captions in batches sorted by length.

        Args:
            captions: N texts.
            dtype: of the values; float16 halves the memory of a large corpus.

        Returns:
            (total, D) embeddings, in the order given, and (N,) how many each caption has.
        """


def peak_and_mean(frames: Padded) -> Tensor:
    """(B, T, D) → (B, D): the maximum plus the mean of a clip's valid frames, as in PANNs."""
    mask = frames.mask[..., None]
    mean = (frames.values * mask).sum(1) / frames.lengths[:, None]
    return mean + frames.values.masked_fill(~mask, -float("inf")).amax(1)

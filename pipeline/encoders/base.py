"""What every frozen encoder is: waveforms or captions in, frames or tokens of one width out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from torch import Tensor, nn

from pipeline.config.encoders import SpecAugmentConfig
from pipeline.encoders.spectrogram import LogMel, spec_augment
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded


class Masks(NamedTuple):
    """What SpecAugment lays on a batch of windows."""

    settings: SpecAugmentConfig
    seeds: Tensor  # (B,) int64, one a clip and view


class SoundEncoder(nn.Module, ABC):
    """Waveforms to frames.

    A clip's valid frames depend on its own samples alone, not on what it is batched with, up to
    float rounding; each encoder's docstring says how it pads.
    """

    sample_rate: int  # Hz, of the waveforms it takes
    width: int  # D
    frame_seconds: float  # between two frames; of a pooled encoder: the window's length
    pooled: bool = False  # one frame a window: windows of a clip are averaged, not joined
    augments: bool = False  # has a log-mel that SpecAugment can mask

    @abstractmethod
    def forward(self, waveform: Tensor, lengths: Tensor, masks: Masks | None = None) -> Padded:
        """Encodes a batch of windows.

        Args:
            waveform: (B, samples) float32 in [-1, 1]; what lies past a clip's length is ignored.
            lengths: (B,) int64, valid samples, each at least 1.
            masks: to lay on the log-mel before the frozen trunk; None: the clean view.

        Returns:
            (B, T, D) frames; each clip has at least one.

        Raises:
            EarwitnessError: ``masks`` are given to an encoder without a log-mel.
        """


class SpectrogramEncoder(SoundEncoder):
    """An encoder that is a log-mel front end in float32, then a trunk."""

    augments = True
    logmel: LogMel

    def frontend(self, waveform: Tensor, lengths: Tensor) -> Padded:
        """(B, samples) float32 and (B,) int64 → (B, T, M) log-mel in dB with (B,) valid frames."""
        return self.logmel(waveform, lengths)

    def places(self, lengths: Tensor, frames: int) -> Tensor | None:
        """(B, T) the valid frame that each log-mel frame repeats, negative for none.

        None where a clip is not repeated to fill its window. ``lengths``: (B,) int64, samples.
        """
        return None

    @abstractmethod
    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        """(B, T, M) log-mel as :meth:`frontend` gave it, (B,) valid frames → (B, T', D) frames."""

    def forward(self, waveform: Tensor, lengths: Tensor, masks: Masks | None = None) -> Padded:
        values, frames = self.frontend(waveform, lengths)
        if masks is not None:
            places = self.places(lengths, values.shape[1])
            values = spec_augment(values, frames, *masks, places)
        return self.trunk(values, frames)


def refuse_masks(masks: Masks | None, encoder: str) -> None:
    """For encoders without a log-mel of their own."""
    if masks is not None:
        raise EarwitnessError(f"{encoder} has no spectrogram to mask; set its views to 0")


class Packed(NamedTuple):
    """Sequences of one width, laid end to end in the order of the captions."""

    values: NDArray[np.floating]  # (total, D)
    lengths: NDArray[np.int64]  # (N,)


class TextEncoder(ABC):
    """Captions to token embeddings, or to one embedding each."""

    width: int  # D

    @abstractmethod
    def encode(self, captions: Sequence[str], dtype: DTypeLike = np.float32) -> Packed:
        """Encodes captions in batches sorted by length.

        Args:
            captions: N texts.
            dtype: of the values; float16 halves the memory of a large corpus.

        Returns:
            (total, D) embeddings and (N,) how many each caption has, in the order given.
        """


def peak_and_mean(frames: Padded) -> Tensor:
    """(B, T, D) → (B, D): the maximum plus the mean of a clip's own frames, as PANNs pool them."""
    mask = frames.mask[..., None]
    mean = (frames.values * mask).sum(1) / frames.lengths[:, None]
    return mean + frames.values.masked_fill(~mask, -float("inf")).amax(1)

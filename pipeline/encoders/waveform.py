"""The samples as a feature, so that end-to-end training also reads HDF5."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pipeline.config.encoders import WaveformEncoderConfig
from pipeline.encoders.base import Masks, SoundEncoder, refuse_masks
from pipeline.encoders.spectrogram import at_least
from pipeline.tensors import Padded

HUB = None  # it has no weights


class WaveformEncoder(SoundEncoder):
    """``frame`` samples a frame; the last frame is padded with zeros."""

    def __init__(self, settings: WaveformEncoderConfig) -> None:
        super().__init__()
        self.sample_rate, self.width = settings.sample_rate, settings.frame
        self.frame_seconds = settings.frame / settings.sample_rate

    def forward(self, waveform: Tensor, lengths: Tensor, masks: Masks | None = None) -> Padded:
        refuse_masks(masks, "waveform")
        waveform, _ = at_least(waveform, lengths, 1)
        waveform = F.pad(waveform, (0, -waveform.shape[1] % self.width))
        frames = (lengths + self.width - 1) // self.width
        return Padded(waveform.unflatten(1, (-1, self.width)), frames)


def build(settings: WaveformEncoderConfig, location: None) -> WaveformEncoder:
    """The encoder; it has no weights."""
    return WaveformEncoder(settings)

"""The log-mel spectrogram as a feature (RLSSR 4.1)."""

from __future__ import annotations

from torch import Tensor

from pipeline.config.encoders import LogmelEncoderConfig
from pipeline.encoders.base import SpectrogramEncoder
from pipeline.encoders.spectrogram import LogMel, front_end
from pipeline.tensors import Padded

HUB = None  # it has no weights


class LogmelEncoder(SpectrogramEncoder):
    """``mels`` values in dB every ``hop`` samples; a clip is padded by its reflection."""

    def __init__(self, settings: LogmelEncoderConfig) -> None:
        super().__init__()
        self.logmel = LogMel(**front_end(settings), win_length=settings.win_length)
        self.sample_rate, self.width = settings.sample_rate, settings.mels
        self.frame_seconds = settings.hop / settings.sample_rate

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        return Padded(logmel, lengths)


def build(settings: LogmelEncoderConfig, location: None) -> LogmelEncoder:
    """The encoder; it has no weights."""
    return LogmelEncoder(settings)

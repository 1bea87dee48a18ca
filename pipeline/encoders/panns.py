"""PANNs' CNN14 and CNN10 (Kong et al. 2020, table 1), with panns_inference's own blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config import PannsEncoder as Settings
from pipeline.encoders import weights as files
from pipeline.encoders.base import SoundEncoder, SpectrogramEncoder
from pipeline.encoders.conv_blocks import conv_block, masked_norm, panns_models
from pipeline.encoders.spectrogram import LogMel, at_least
from pipeline.encoders.wavegram import WavegramEncoder
from pipeline.errors import EarwitnessError
from pipeline.models.batch import Padded

POOLS = {"cnn14": (2, 2, 2, 2, 2, 1), "cnn10": (2, 2, 2, 2)}  # after each block
UNUSED = ("fc1.", "fc_audioset.", "spectrogram_extractor.", "logmel_extractor.", files.HEAD)


class PannsEncoder(SpectrogramEncoder):
    """CNN14: six blocks, 2048-d frames every 32 log-mel frames; CNN10: four, 512-d, every 16.

    Frames are the mean over frequency after the last block, as captioning systems take them. A
    clip ends in its own reflection, then in the convolutions' zeros, in a batch as alone; a clip
    shorter than one frame is filled up with silence to one.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        if settings.model not in POOLS:
            raise EarwitnessError(
                f"panns {settings.model} reads the waveform too; take {' or '.join(POOLS)} here"
            )
        self.pools = POOLS[settings.model]
        self.reduction = 2 ** self.pools.count(2)
        if settings.mels < self.reduction:
            raise EarwitnessError(f"panns {settings.model} needs mels of {self.reduction} or more")
        block: Any = panns_models().ConvBlock
        widths = [1, *(settings.channels * 2**index for index in range(len(self.pools)))]
        self.logmel = LogMel(*(getattr(settings, name) for name in files.FRONT_END))
        self.bn0 = nn.BatchNorm2d(settings.mels)
        for index in range(len(self.pools)):
            setattr(self, f"conv_block{index + 1}", block(widths[index], widths[index + 1]))
        # 1.3 to 1.8 times as fast on a CPU
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sample_rate, self.width = settings.sample_rate, widths[-1]
        self.frame_seconds = self.reduction * settings.hop / settings.sample_rate

    def frontend(self, waveform: Tensor, lengths: Tensor) -> Padded:
        shortest = (self.reduction - 1) * self.logmel.hop
        return self.logmel(*at_least(waveform, lengths, shortest))

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        return frequency_mean(*self.maps(logmel, lengths))

    def maps(self, logmel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, M) → (B, D, T', M') after the last block, and (B,) valid frames of it."""
        x = masked_norm(self.bn0, logmel[:, None].transpose(1, 3), lengths)  # (B, M, T, 1)
        x = x.transpose(1, 3)
        for index, pool in enumerate(self.pools):
            block = getattr(self, f"conv_block{index + 1}")
            x, lengths = conv_block(block, x, lengths, (pool, pool))
            x = F.dropout(x, p=0.2, training=self.training)  # PANNs' own
        return x, lengths


def frequency_mean(maps: Tensor, lengths: Tensor) -> Padded:
    """(B, D, T, M) and (B,) → frames (B, T, D)."""
    return Padded(maps.mean(3).transpose(1, 2), lengths)


def build(settings: Settings, weights: Path | None) -> SoundEncoder:
    """The encoder with its weights: PANNs' own checkpoints, or those of the tagging stage."""
    wavegram = settings.model == "wavegram_logmel_cnn14"
    encoder = WavegramEncoder(settings) if wavegram else PannsEncoder(settings)
    files.load_trained(encoder, encoder.logmel, settings, weights, UNUSED)
    return encoder

"""PANNs' Wavegram-Logmel-CNN14 (Kong et al. 2020, 3.3): a learnt spectrogram beside the log-mel.

panns_inference holds CNN14 alone, so the wavegram is built here, with the names of PANNs'
checkpoint; its two-dimensional blocks are panns_inference's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.encoders import PannsEncoderConfig
from pipeline.encoders.base import Masks, SoundEncoder, refuse_masks
from pipeline.encoders.conv_blocks import conv_block, masked_norm, panns_models, zero_past
from pipeline.encoders.spectrogram import LogMel, at_least, front_end
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

STRIDE = 5  # of the first convolution
POOL = 4  # after each of the three blocks on the waveform
HOP = STRIDE * POOL**3  # samples a frame of the wavegram
GROUPS = 4  # channels of the wavegram as an image; each has M / 2 bins
REDUCTION = 32  # log-mel frames a frame: five poolings by two


class WaveBlock(nn.Module):
    """PANNs' ConvPreWavBlock: two convolutions along time, the second dilated, then a maximum."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(before, after, 3, padding=1, bias=False)
        self.conv2 = nn.Conv1d(after, after, 3, padding=2, dilation=2, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm1d(after), nn.BatchNorm1d(after)
        nn.init.xavier_uniform_(self.conv1.weight)
        nn.init.xavier_uniform_(self.conv2.weight)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T) and (B,) valid steps → (B, C', T // 4) and (B,)."""
        x = F.relu_(masked_norm(self.bn1, self.conv1(zero_past(x, lengths)), lengths))
        x = F.relu_(masked_norm(self.bn2, self.conv2(zero_past(x, lengths)), lengths))
        return F.max_pool1d(x, POOL), lengths // POOL


class WavegramEncoder(SoundEncoder):
    """2048-d frames every 32 hops of 320 samples: 0.32 s at 32 kHz.

    Frames are the mean over frequency after the last block (SJTU's code). A clip is padded by zeros
    for the wavegram and by its reflection for the log-mel, alone and in a batch; a clip shorter
    than one frame is padded with silence to one. If one of the two is a frame longer than the
    other, that frame is dropped.
    """

    def __init__(self, settings: PannsEncoderConfig) -> None:
        super().__init__()
        if settings.hop != HOP:
            raise EarwitnessError(f"wavegram_logmel_cnn14 has a frame every {HOP} samples; set hop")
        if settings.mels < REDUCTION:
            raise EarwitnessError(f"wavegram_logmel_cnn14 needs mels of {REDUCTION} or more")
        block: Any = panns_models().ConvBlock
        width = settings.channels
        bins = settings.mels // 2  # as many as the log-mel has where the two are joined
        narrow, wide = GROUPS * bins // 2, GROUPS * bins
        self.logmel = LogMel(**front_end(settings))
        self.pre_conv0 = nn.Conv1d(1, narrow, 11, stride=STRIDE, padding=5, bias=False)
        nn.init.xavier_uniform_(self.pre_conv0.weight)
        self.pre_bn0 = nn.BatchNorm1d(narrow)
        self.pre_block1 = WaveBlock(narrow, narrow)
        self.pre_block2 = WaveBlock(narrow, wide)
        self.pre_block3 = WaveBlock(wide, wide)
        self.pre_block4 = block(GROUPS, width)
        self.bn0 = nn.BatchNorm2d(settings.mels)
        self.conv_block1 = block(1, width)
        self.conv_block2 = block(2 * width, 2 * width)
        for index in range(2, 6):
            setattr(
                self, f"conv_block{index + 1}", block(width * 2 ** (index - 1), width * 2**index)
            )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sample_rate, self.width = settings.sample_rate, width * 2**5
        self.frame_seconds = REDUCTION * HOP / settings.sample_rate

    def forward(self, waveform: Tensor, lengths: Tensor, masks: Masks | None = None) -> Padded:
        refuse_masks(masks, "panns wavegram_logmel_cnn14")
        waveform, lengths = at_least(waveform.float(), lengths, REDUCTION * HOP)
        wave, steps = self.wavegram(waveform, lengths)
        logmel, frames = self.logmel(waveform, lengths)
        x = masked_norm(self.bn0, logmel[:, None].transpose(1, 3), frames).transpose(1, 3)
        x, frames = conv_block(self.conv_block1, x, frames, (2, 2))
        shared = min(x.shape[2], wave.shape[2])
        x = torch.cat([x[:, :, :shared], wave[:, :, :shared]], dim=1)
        frames = torch.minimum(frames, steps)
        for index in range(1, 6):
            pool = 2 if index < 5 else 1
            x = F.dropout(x, p=0.2, training=self.training)  # PANNs
            x, frames = conv_block(getattr(self, f"conv_block{index + 1}"), x, frames, (pool, pool))
        x = F.dropout(x, p=0.2, training=self.training)
        return Padded(x.mean(3).transpose(1, 2), frames)

    def wavegram(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, samples), zero past each clip, and (B,) → (B, C, T, M / 2) and (B,) valid frames.

        A frame is two hops, as in the log-mel after its first pooling.
        """
        x = self.pre_conv0(waveform[:, None])
        lengths = (lengths - 1) // STRIDE + 1
        x = F.relu_(masked_norm(self.pre_bn0, x, lengths))
        for block in (self.pre_block1, self.pre_block2, self.pre_block3):
            x, lengths = block(x, lengths)
        image = x.unflatten(1, (GROUPS, -1)).transpose(2, 3)  # (B, 4, T, M / 2)
        return conv_block(self.pre_block4, image, lengths, (2, 1))

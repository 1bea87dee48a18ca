"""PANNs' convolution blocks on a log-mel (Kong et al. 2020, table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.encoders import PannsEncoderConfig, WavCapsEncoderConfig
from pipeline.encoders.base import SpectrogramEncoder
from pipeline.encoders.conv_blocks import conv_block, masked_norm, panns_models
from pipeline.encoders.spectrogram import LogMel, at_least, front_end
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded


class CnnEncoder(SpectrogramEncoder):
    """panns_inference's blocks, each twice as wide as the one before.

    A clip is padded by its reflection, then by the convolutions' zeros, alone and in a batch; a
    clip shorter than one frame is padded with silence to one.
    """

    def __init__(
        self,
        settings: PannsEncoderConfig | WavCapsEncoderConfig,
        channels: int,
        pools: Sequence[int],
    ) -> None:
        """``channels``: of the first block; ``pools``: pooling factor after each block.

        Raises:
            EarwitnessError: the poolings leave no band.
        """
        super().__init__()
        self.pools = tuple(pools)
        self.reduction = 2 ** self.pools.count(2)
        if settings.mels < self.reduction:
            raise EarwitnessError(f"{settings.module} needs mels of {self.reduction} or more")
        block: Any = panns_models().ConvBlock
        widths = [1, *(channels * 2**index for index in range(len(self.pools)))]
        self.logmel = LogMel(**front_end(settings))
        self.bn0 = nn.BatchNorm2d(settings.mels)
        for index in range(len(self.pools)):
            setattr(self, f"conv_block{index + 1}", block(widths[index], widths[index + 1]))
        # 1.3 to 1.8 times as fast on a CPU
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sample_rate, self.map_width = settings.sample_rate, widths[-1]

    def frontend(self, waveform: Tensor, lengths: Tensor) -> Padded:
        shortest = (self.reduction - 1) * self.logmel.hop
        return self.logmel(*at_least(waveform, lengths, shortest))

    def maps(self, logmel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, M) → (B, D, T', M') of the last block, and (B,) valid frames."""
        x = masked_norm(self.bn0, logmel[:, None].transpose(1, 3), lengths)  # (B, M, T, 1)
        x = x.transpose(1, 3)
        for index, pool in enumerate(self.pools):
            block = getattr(self, f"conv_block{index + 1}")
            x, lengths = conv_block(block, x, lengths, (pool, pool))
            x = F.dropout(x, p=0.2, training=self.training)  # PANNs
        return x, lengths


def frequency_mean(maps: Tensor, lengths: Tensor) -> Padded:
    """(B, D, T, M) and (B,) → frames (B, T, D)."""
    return Padded(maps.mean(3).transpose(1, 2), lengths)

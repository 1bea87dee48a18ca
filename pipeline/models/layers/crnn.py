"""The CRNN of DCASE 2022's retrieval baseline (Xie et al. 2022, after Dinkel et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.crnn import CrnnConfig
from pipeline.encoders.conv_blocks import masked_norm, zero_past
from pipeline.errors import EarwitnessError
from pipeline.models.layers.bigru import BiRecurrence
from pipeline.models.layers.feature_input import resize_to
from pipeline.tensors import Padded

POOLS = {0: (2, 4), 2: (2, 4), 4: (1, 4)}  # block → frames and bands that are pooled after it
REDUCTION, BANDS = 4, 64  # frames and bands that all pools together make one
SLOPE = 0.1  # of the leaky ReLUs
TINY = 1e-24  # below it the root's gradient is 0, not infinite


class Crnn(nn.Module):
    """(B, T, W) stored features → (B, T', 2 width): five blocks, LP pools, then a recurrence.

    T' is T // 4, at least 1, and T without convolutions. In training, batch norms use only valid
    frames, and the convolutions see zeros after each clip, in a batch as alone. The baseline
    repeats the frames up to T before it takes their mean, which does not change the mean; it is
    left out.

    Attributes:
        width: D of the frames. reduction: stored frames per frame.
    """

    def __init__(self, stored: int, beside: Sequence[int], settings: CrnnConfig) -> None:
        """``stored``: W of the feature that is convolved; ``beside``: W of each of the others.

        Raises:
            EarwitnessError: too few values in a frame for the pools.
        """
        super().__init__()
        self.settings = settings
        self.norms, self.convolutions = nn.ModuleList(), nn.ModuleList()
        read = stored
        if settings.convolutions:
            if stored < BANDS:
                raise EarwitnessError(
                    f"crnn: its pools need {BANDS} values a frame or more, and the stored feature "
                    f"has {stored}; set convolutions: false, or give more bands"
                )
            for inputs, outputs in zip((1, *settings.channels), settings.channels, strict=False):
                self.norms.append(nn.BatchNorm2d(inputs))
                convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
                nn.init.kaiming_normal_(convolution.weight)
                self.convolutions.append(convolution)
            read = settings.channels[-1] * (stored // BANDS)
        self.dropout = nn.Dropout(settings.dropout)
        self.recurrence = BiRecurrence(
            settings.cell, read + sum(beside), settings.width, settings.layers, settings.dropout
        )
        self.width = 2 * settings.width
        self.reduction = REDUCTION if settings.convolutions else 1

    def forward(self, stored: Padded, beside: Sequence[Padded] = ()) -> Padded:
        """(B, T, W) and others (B, T″, W″), which are resized to its frames → (B, T', D)."""
        read = self._convolved(stored) if self.settings.convolutions else stored
        values = self.dropout(read.values.float())
        others = [resize_to(feature, read) for feature in beside]
        return Padded(
            self.recurrence(Padded(torch.cat([values, *others], -1), read.lengths)), read.lengths
        )

    def _convolved(self, stored: Padded) -> Padded:
        """(B, T, W) → (B, T // 4, channels · W // 64); a shorter clip is padded to 4 frames."""
        short = max(0, REDUCTION - stored.values.shape[1])
        x = zero_past(stored.values.float()[:, None], stored.lengths)  # (B, 1, T, W)
        x = F.pad(x, (0, 0, 0, short))
        lengths = stored.lengths.clamp(min=REDUCTION)
        blocks = zip(self.norms, self.convolutions, strict=True)
        for block, (norm, convolution) in enumerate(blocks):
            x = convolution(zero_past(masked_norm(norm, x, lengths), lengths))
            x = F.leaky_relu(x, SLOPE)
            if block in POOLS:
                x = lp_pool(x, self.settings.power, POOLS[block])
                lengths = lengths // POOLS[block][0]
        return Padded(x.transpose(1, 2).flatten(2), lengths)


def lp_pool(x: Tensor, power: float, kernel: tuple[int, int]) -> Tensor:
    """(Σ |x|^p)^(1/p) over windows: torch's ``LPPool2d`` for even p, but in float32 and with
    finite gradients where all values are zero, as at padding.

    Args:
        x: (B, C, T, M).

    Returns:
        (B, C, T // kernel[0], M // kernel[1]).
    """
    with torch.autocast(x.device.type, enabled=False):
        x = x.float()
        # two squares for the baseline's p = 4, which are faster than a power
        mean = F.avg_pool2d(x.square().square() if power == 4 else x.abs().pow(power), kernel)
        return (mean * (kernel[0] * kernel[1])).clamp(min=TINY).pow(1 / power)

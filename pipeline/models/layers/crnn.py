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

POOLS = {0: (2, 4), 2: (2, 4), 4: (1, 4)}  # after which block: frames and bands that become one
REDUCTION, BANDS = 4, 64  # what all pools together make one
SLOPE = 0.1  # of the leaky ReLUs
TINY = 1e-24  # below it the root's gradient is none, rather than infinite


class Crnn(nn.Module):
    """(B, T, W) stored features → (B, T', 2 width): five blocks, LP pools, then a recurrence.

    T' is T // 4, at least 1, and without convolutions T. In training, batch norms count valid
    frames alone, and each clip ends in the convolutions' zeros, in a batch as alone. The baseline
    stretches the frames to T again before it takes their mean, which leaves the mean as it is: so
    they stay as they are.

    Attributes:
        width: D of the frames. reduction: stored frames that one frame stands for.
    """

    def __init__(self, stored: int, beside: Sequence[int], settings: CrnnConfig) -> None:
        """``stored``: W of the feature that is convolved; ``beside``: W of each of the others.

        Raises:
            EarwitnessError: too few values a frame to be pooled.
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
        others = [resize_to(own, read) for own in beside]
        return Padded(
            self.recurrence(Padded(torch.cat([values, *others], -1), read.lengths)), read.lengths
        )

    def _convolved(self, stored: Padded) -> Padded:
        """(B, T, W) → (B, T // 4, channels · W // 64); a clip of less is zeros up to 4 frames."""
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
    """(Σ |x|^p)^(1/p) over windows: torch's ``LPPool2d`` for even p, in float32 and with finite
    gradients where all is zero, as padding is.

    Args:
        x: (B, C, T, M).

    Returns:
        (B, C, T // kernel[0], M // kernel[1]).
    """
    with torch.autocast(x.device.type, enabled=False):
        x = x.float()
        # of the baseline's p two squares, which are faster than a power
        mean = F.avg_pool2d(x.square().square() if power == 4 else x.abs().pow(power), kernel)
        return (mean * (kernel[0] * kernel[1])).clamp(min=TINY).pow(1 / power)

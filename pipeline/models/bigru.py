"""Bidirectional GRU over padded sequences (SJTU 2.1, Table 1: 3 × 256)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.batch import Padded


class BiGru(nn.Module):
    """As ``nn.GRU(bidirectional=True)`` on packed sequences, and no wait for the device.

    Packing wants the lengths on the CPU. Here each direction is a GRU of its own, and the backward
    one reads each clip's valid frames in reverse order, so that padding comes last for both and no
    valid frame's output depends on it.
    """

    def __init__(self, inputs: int, width: int, layers: int, dropout: float) -> None:
        """``inputs``: W. ``width``: D of each direction. ``dropout``: between layers."""
        super().__init__()
        sizes = [inputs] + [2 * width] * (layers - 1)
        self.forwards = nn.ModuleList(nn.GRU(size, width, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(nn.GRU(size, width, batch_first=True) for size in sizes)
        self.dropout = dropout

    @torch.compiler.disable  # cuDNN's recurrence is one kernel, which tracing would take apart
    def forward(self, padded: Padded) -> Tensor:
        """(B, T, W) → (B, T, 2D), the weights' dtype; padded frames hold nothing of meaning."""
        values = padded.values.to(next(self.parameters()).dtype)
        frame = torch.arange(values.shape[1], device=values.device)
        turned = padded.lengths[:, None] - 1 - frame  # (B, T); negative in the padding, which stays
        order = torch.where(turned >= 0, turned, frame)[..., None]
        # under autocast cuDNN's would be float16 whatever was asked for, and gradients underflow
        with torch.autocast(values.device.type, enabled=False):
            for layer, (ahead, back) in enumerate(zip(self.forwards, self.backwards, strict=True)):
                if layer:
                    values = F.dropout(values, self.dropout, self.training)
                reverse = back(_ordered(values, order))[0]
                values = torch.cat([ahead(values)[0], _ordered(reverse, order)], -1)
        return values


def _ordered(values: Tensor, order: Tensor) -> Tensor:
    """Frames (B, T, W) in the order (B, T, 1)."""
    return values.gather(1, order.expand_as(values))

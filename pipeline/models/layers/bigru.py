"""Bidirectional recurrences over padded sequences (SJTU 2.1, Table 1: a GRU, 3 × 256)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.tensors import Padded
from pipeline.uncompiled import uncompiled

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class BiRecurrence(nn.Module):
    """As ``nn.GRU(bidirectional=True)`` or ``nn.LSTM`` on packed sequences, without a wait for the
    GPU: packing needs the lengths on the CPU.

    Here each direction is a separate layer, and the backward one reads each clip's valid frames in
    reverse order, so that padding comes last for both and changes no valid frame's output.
    """

    def __init__(
        self, cell: Literal["gru", "lstm"], inputs: int, width: int, layers: int, dropout: float
    ) -> None:
        """``inputs``: W. ``width``: D of each direction. ``dropout``: between layers."""
        super().__init__()
        layer = CELLS[cell]
        sizes = [inputs] + [2 * width] * (layers - 1)
        self.forwards = nn.ModuleList(layer(size, width, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(layer(size, width, batch_first=True) for size in sizes)
        self.dropout = dropout

    @uncompiled  # cuDNN's recurrence is one kernel, which tracing would split
    def forward(self, padded: Padded) -> Tensor:
        """(B, T, W) → (B, T, 2D), the weights' dtype; values at padding mean nothing."""
        values = padded.values.to(next(self.parameters()).dtype)
        frame = torch.arange(values.shape[1], device=values.device)
        reverse = padded.lengths[:, None] - 1 - frame  # (B, T); negative at padding, which stays
        order = torch.where(reverse >= 0, reverse, frame)[..., None]
        # under autocast cuDNN would use float16, in which gradients underflow
        with torch.autocast(values.device.type, enabled=False):
            layers = zip(self.forwards, self.backwards, strict=True)
            for number, (forwards, backwards) in enumerate(layers):
                if number:
                    values = F.dropout(values, self.dropout, self.training)
                turned = backwards(_ordered(values, order))[0]
                values = torch.cat([forwards(values)[0], _ordered(turned, order)], -1)
        return values


class BiGru(BiRecurrence):
    """A :class:`BiRecurrence` of GRUs."""

    def __init__(self, inputs: int, width: int, layers: int, dropout: float) -> None:
        super().__init__("gru", inputs, width, layers, dropout)


def _ordered(values: Tensor, order: Tensor) -> Tensor:
    """Frames (B, T, W) in the order (B, T, 1)."""
    return values.gather(1, order.expand_as(values))

"""A captioner's input: stored features, all resized to one shape (EDTC 3.1.1, 3.1.2).

The paper resizes every feature to 32 × 768 and does not say how. Here time is resized by area
average where it shrinks and by linear interpolation where it grows, each clip from its own length,
so that nothing is padded afterwards; the width in the same way, or by a learned projection.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.config.edtc import FeatureInputConfig
from pipeline.tensors import Padded


def resize_matrix(
    lengths: Tensor, size: int | Tensor, longest: int, rows: int | None = None
) -> Tensor:
    """Weights that resize each row's first ``lengths[b]`` items to ``size``.

    As torch's ``adaptive_avg_pool1d`` where a row is longer than ``size``, as its linear
    ``interpolate`` where it is shorter. A row of length 0 becomes zeros.

    Args:
        lengths: (B,) int64, at most ``longest``.
        size: one for all rows, or (B,) int64, at most ``rows``, one for each.

    Returns:
        (B, size or rows, longest) float32; rows beyond a row's own size mean nothing.
    """
    if isinstance(size, Tensor):
        size, count = size[:, None, None], rows
    else:
        count = size
    item = torch.arange(longest, device=lengths.device)  # (longest,)
    place = torch.arange(count or 0, device=lengths.device)[:, None]  # (size, 1)
    length = lengths[:, None, None]  # (B, 1, 1)
    start = place * length // size
    end = -(-(place + 1) * length // size)  # rounded up
    inside = (item >= start) & (item < end)
    average = inside / (end - start).clamp(min=1)
    centre = (place + 0.5) * (length / size) - 0.5
    centre = torch.minimum(centre.clamp(min=0), (length - 1).float())
    linear = (1 - (item - centre).abs()).clamp(min=0)
    linear = linear * (length > 0)
    return torch.where(length >= size, average, linear)


def resize_frames(padded: Padded, frames: int) -> Tensor:
    """(B, T, W) with their lengths → (B, frames, W) float32, in one batched product."""
    weights = resize_matrix(padded.lengths, frames, padded.values.shape[1])
    return weights @ padded.values.to(weights.dtype)


def resize_to(padded: Padded, like: Padded) -> Tensor:
    """(B, T, W) → (B, T', W) float32, each clip resized to its number of frames in ``like``."""
    frames = like.values.shape[1]
    weights = resize_matrix(padded.lengths, like.lengths, padded.values.shape[1], frames)
    with torch.autocast(padded.values.device.type, enabled=False):
        return weights @ padded.values.float()


def span_mask(rows: int, size: int, spans: int, width: float, device: torch.device) -> Tensor:
    """Random spans, drawn as in SpecAugment (Park et al. 2019).

    Args:
        spans: of each row. width: a span's greatest length, as a fraction of ``size``.

    Returns:
        (rows, size) bool, true inside a span; from torch's generator of ``device``.
    """
    drawn = torch.rand(2, rows, spans, 1, device=device)
    length = (drawn[0] * (int(width * size) + 1)).floor()
    start = (drawn[1] * (size - length + 1)).floor()
    item = torch.arange(size, device=device)
    return ((item >= start) & (item < start + length)).any(1)


class Input(nn.Module):
    """One stored feature → (B, frames, width): resized, normalised, and masked in training.

    Normalised by its own layer norm (ours), as activations of different encoders differ by orders
    of magnitude. Masks come after it, so that a masked value is the mean.
    """

    def __init__(self, stored: int, settings: FeatureInputConfig, masked: bool = True) -> None:
        """``stored``: W of the feature file; ``masked``: false for text, which is not augmented."""
        super().__init__()
        self.settings = settings
        self.masked = masked
        self.width: nn.Linear | None = None
        matrix: Tensor | None = None
        if settings.resize == "project":
            self.width = nn.Linear(stored, settings.width)
        elif stored != settings.width:
            matrix = resize_matrix(torch.tensor([stored]), settings.width, stored)[0].T.contiguous()
        self.matrix: Tensor | None
        self.register_buffer("matrix", matrix, persistent=False)
        self.norm = nn.LayerNorm(settings.width) if settings.normalise else None

    def forward(self, padded: Padded) -> Tensor:
        """(B, T, W) → (B, frames, width)."""
        values = resize_frames(padded, self.settings.frames)
        if self.width is not None:
            values = self.width(values)
        elif self.matrix is not None:
            values = values @ self.matrix
        if self.norm is not None:
            values = self.norm(values)
        return self._mask(values) if self.training and self.masked else values

    def _mask(self, values: Tensor) -> Tensor:
        settings, (rows, frames, width) = self.settings, values.shape
        if settings.time_masks:
            spans = span_mask(rows, frames, settings.time_masks, settings.time_width, values.device)
            values = values.masked_fill(spans[:, :, None], 0)
        if settings.channel_masks:
            spans = span_mask(
                rows, width, settings.channel_masks, settings.channel_width, values.device
            )
            values = values.masked_fill(spans[:, None], 0)
        return values

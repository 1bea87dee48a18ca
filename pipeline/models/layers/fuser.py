"""FUSER: what several encoders' features of one sound have in common (EDTC 3.2).

The Input Layer has an EFB for each feature, a CFB and an FFN; each of the L Fusion Layers has an
SFEB and PFEBs instead of the EFBs. Where the paper's text (3.2.2) leaves the wiring to its Figure
3, we read it as follows:

- EFB (encoder fusion block): feature i is the query of a cross-attention to each other feature,
  each with its own softmax; their values are summed and added to feature i. A single feature
  (E = 1) attends to itself.
- SFEB (shared feature extract block): self-attention over the channels, the T tokens of width D,
  plus self-attention over the feature dimension: D is reduced to R (768 → 256), the R dimensions
  attend to each other as vectors over T (an R × R attention, which is why the reduction saves
  memory), and R is raised to D again. All features share these weights.
- PFEB (private feature extract block): three convolutions with batch normalisation and GELU
  between them, kernel 3 (the paper prints none), with its own weights for each feature.
- A Fusion Layer adds SFEB's and PFEB's outputs to the feature.
- CFB (channel fusion block): the features' outputs concatenated, a convolution of kernel 7 back to
  D. From the first Fusion Layer on it is added to the CFB's output of the layer before: the fused
  stream goes through all layers, and the last one's is FUSER's output.
- The shared FFN processes both the features and the fused stream. Nothing reads the last layer's
  features, so its FFN is not applied to them.
- Layer normalisation follows every residual (post-norm, as in TRANSLATOR and BART), and dropout is
  applied to what a residual adds.

Letters: E features, B clips, T frames, D width. Features are stacked as (E, B, T, D): one batched
pass serves all of them, whether their weights are shared or not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.edtc import FuserConfig
from pipeline.encoders.conv_blocks import whole_norm
from pipeline.errors import EarwitnessError
from pipeline.models.layers.stacked import StackedConvolution, StackedLinear, StackedNorm, attend

PRIVATE_KERNEL = 3  # of PFEB's convolutions


class EncoderFusion(nn.Module):
    """EFB of every feature, each with its own weights. (E, B, T, D) → the same shape."""

    def __init__(self, encoders: int, width: int, settings: FuserConfig) -> None:
        super().__init__()
        self.heads, self.dropout = settings.heads, settings.dropout
        self.query = StackedLinear(encoders, width, width)
        self.keys_values = StackedLinear(encoders, width, 2 * width)
        self.output = StackedLinear(encoders, width, width)
        self.norm = StackedNorm(encoders, width)
        others = [[j for j in range(encoders) if j != i] or [i] for i in range(encoders)]
        self.others: Tensor  # (E, E − 1)
        self.register_buffer("others", torch.tensor(others), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        pairs = values[self.others]  # (E, E − 1, B, T, D)
        keys, attended = self.keys_values(pairs).chunk(2, dim=-1)
        queries = self.query(values)[:, None].expand_as(keys)
        summed = attend(queries, keys, attended, self.heads).sum(1)
        added = F.dropout(self.output(summed), self.dropout, self.training)
        return self.norm(values + added)


class SharedExtract(nn.Module):
    """SFEB, the same for every feature. (E, B, T, D) → the same shape."""

    def __init__(self, width: int, settings: FuserConfig) -> None:
        super().__init__()
        self.heads = settings.heads
        self.channel = nn.Linear(width, 3 * width)
        self.channel_output = nn.Linear(width, width)
        self.reduce = nn.Linear(width, settings.reduced)
        self.dimension = nn.Linear(settings.reduced, 3 * settings.reduced)
        self.raise_ = nn.Linear(settings.reduced, width)

    def forward(self, values: Tensor) -> Tensor:
        queries, keys, whole = self.channel(values).chunk(3, dim=-1)
        channel = self.channel_output(attend(queries, keys, whole, self.heads))
        return channel + self.raise_(self._dimensions(self.reduce(values)))

    def _dimensions(self, reduced: Tensor) -> Tensor:
        """Attention among the R dimensions, each a vector over T. (E, B, T, R) → the same shape."""
        queries, keys, whole = self.dimension(reduced).flatten(0, 1).chunk(3, dim=-1)
        scores = queries.mT @ keys / math.sqrt(reduced.shape[2])  # (E·B, R, R)
        return (whole @ scores.softmax(-1).mT).view(reduced.shape)


class PrivateExtract(nn.Module):
    """PFEB of every feature, each with its own weights. (E, B, T, D) → the same shape."""

    def __init__(self, encoders: int, width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            StackedConvolution(encoders, width, width, PRIVATE_KERNEL) for _ in range(3)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(encoders * width) for _ in range(2))

    def forward(self, values: Tensor) -> Tensor:
        values = self.convolutions[0](values)
        for norm, convolution in zip(self.norms, list(self.convolutions)[1:], strict=True):
            rows = values.permute(1, 2, 0, 3)  # (B, T, E, D): the channels of every feature
            flat = rows.reshape(-1, rows.shape[2] * rows.shape[3])
            normed = whole_norm(norm, flat).view(rows.shape)
            values = convolution(F.gelu(normed).permute(2, 0, 1, 3))
        return values


class ChannelFusion(nn.Module):
    """CFB: (E, B, T, D) and the fused stream (B, T, D) so far, if any → (B, T, D)."""

    def __init__(self, encoders: int, width: int, settings: FuserConfig) -> None:
        super().__init__()
        self.dropout = settings.dropout
        self.convolution = StackedConvolution(1, encoders * width, width, settings.kernel)
        self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor, fused: Tensor | None) -> Tensor:
        together = values.permute(1, 2, 0, 3).flatten(2)  # (B, T, E·D)
        out = self.convolution(together[None])[0]
        if fused is not None:
            out = fused + F.dropout(out, self.dropout, self.training)
        return self.norm(out)


class FeedForward(nn.Module):
    """The FFN that features and fused stream share, with its residual. (…, D) → same."""

    def __init__(self, width: int, settings: FuserConfig) -> None:
        super().__init__()
        self.up = nn.Linear(width, settings.feed_forward)
        self.down = nn.Linear(settings.feed_forward, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = settings.dropout

    def forward(self, values: Tensor) -> Tensor:
        added = self.down(F.gelu(self.up(values)))
        return self.norm(values + F.dropout(added, self.dropout, self.training))


class InputLayer(nn.Module):
    """E EFBs, the CFB and the FFN: a first fusion before the deep one."""

    def __init__(self, encoders: int, width: int, settings: FuserConfig) -> None:
        super().__init__()
        self.encoder_fusion = EncoderFusion(encoders, width, settings)
        self.channel_fusion = ChannelFusion(encoders, width, settings)
        self.feed_forward = FeedForward(width, settings)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(E, B, T, D) → (E, B, T, D) and the fused stream, (B, T, D), both before the FFN."""
        values = self.encoder_fusion(values)
        return values, self.channel_fusion(values, None)


class FusionLayer(nn.Module):
    """SFEB, PFEBs, the CFB and the FFN."""

    def __init__(self, encoders: int, width: int, settings: FuserConfig) -> None:
        super().__init__()
        self.dropout = settings.dropout
        self.shared = SharedExtract(width, settings)
        self.private = PrivateExtract(encoders, width)
        self.norm = StackedNorm(encoders, width)
        self.channel_fusion = ChannelFusion(encoders, width, settings)
        self.feed_forward = FeedForward(width, settings)

    def forward(self, values: Tensor, fused: Tensor) -> tuple[Tensor, Tensor]:
        """(E, B, T, D) and (B, T, D) → the same shapes, both before the FFN."""
        extracted = self.shared(values) + self.private(values)
        values = self.norm(values + F.dropout(extracted, self.dropout, self.training))
        return values, self.channel_fusion(values, fused)


class Fuser(nn.Module):
    """The Input Layer and L Fusion Layers for ``encoders`` features of one width."""

    def __init__(self, encoders: int, width: int, settings: FuserConfig) -> None:
        super().__init__()
        if width % settings.heads:
            raise EarwitnessError(
                f"fuser.heads: {settings.heads} does not divide features.width ({width}); "
                "choose a divisor"
            )
        self.input_layer = InputLayer(encoders, width, settings)
        self.layers = nn.ModuleList(
            FusionLayer(encoders, width, settings) for _ in range(settings.layers)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(E, B, T, D) → the fused feature, (B, T, D)."""
        values, fused = self.input_layer(features)
        feed_forward = self.input_layer.feed_forward
        for layer in self.layers:
            assert isinstance(layer, FusionLayer)
            together = feed_forward(torch.cat([values, fused[None]]))
            values, fused = layer(together[:-1], together[-1])
            feed_forward = layer.feed_forward
        return feed_forward(fused)

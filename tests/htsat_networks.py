"""HTSAT as its paper and its checkpoints' names have it (Chen et al. 2022), of two small stages."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from panns_networks import extractors
from torch import Tensor, nn

EMBED, DEPTHS, HEADS, WINDOW = 8, (2, 2), (2, 4), 8
WIDTH = EMBED * 2 ** (len(DEPTHS) - 1)


def block(width: int, heads: int) -> nn.Module:
    """The tensors of one Swin block, by HTSAT's names."""
    made = nn.Module()
    made.norm1, made.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
    made.attn, made.mlp = nn.Module(), nn.Module()
    made.attn.qkv, made.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
    made.attn.relative_position_bias_table = nn.Parameter(torch.randn((2 * WINDOW - 1) ** 2, heads))
    made.mlp.fc1, made.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
    made.register_buffer("attn_mask", torch.zeros(64, WINDOW**2, WINDOW**2))
    return made


def attentional_fusion(channels: int) -> nn.Module:
    """The tensors of LAION's fusion of two maps (clap_module/feature_fusion.py, AFF)."""
    inner, made = channels // 4, nn.Module()

    def convolutions() -> list[nn.Module]:
        first, last = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)
        return [first, nn.BatchNorm2d(inner), nn.ReLU(), last, nn.BatchNorm2d(channels)]

    made.local_att = nn.Sequential(*convolutions())
    made.global_att = nn.Sequential(nn.AdaptiveAvgPool2d(1), *convolutions())
    return made


class Htsat(nn.Module):
    """model/htsat.py of HTS-AT; with ``fused``, the tensors that LAION's fused one has more."""

    def __init__(self, front_end: dict[str, float], fused: bool = False) -> None:
        super().__init__()
        self.spectrogram_extractor, self.logmel_extractor = extractors(front_end)
        self.bn0 = nn.BatchNorm2d(64)
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(1, EMBED, 4, stride=4)
        self.patch_embed.norm = nn.LayerNorm(EMBED)
        if fused:
            self.patch_embed.fusion_model = attentional_fusion(EMBED)
            self.patch_embed.mel_conv2d = nn.Conv2d(1, EMBED, (4, 12), stride=(4, 12))
        self.layers = nn.ModuleList()
        for stage, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
            layer, width = nn.Module(), EMBED * 2**stage
            layer.blocks = nn.ModuleList(block(width, heads) for _ in range(depth))
            if stage < len(DEPTHS) - 1:
                layer.downsample = nn.Module()
                layer.downsample.reduction = nn.Linear(4 * width, 2 * width, bias=False)
                layer.downsample.norm = nn.LayerNorm(4 * width)
            self.layers.append(layer)
        self.norm = nn.LayerNorm(WIDTH)
        self.tscam_conv, self.head = nn.Conv2d(WIDTH, 5, (2, 3)), nn.Linear(5, 5)

    def logmel(self, waveform: Tensor) -> Tensor:
        """(1, samples) → (1, 1, T, 64)."""
        values: Tensor = self.logmel_extractor(self.spectrogram_extractor(waveform))
        return values

    def tokens(self, logmel: Tensor) -> Tensor:
        """(1, 1, T, 64) → (32 × 32, WIDTH): rows of four quarters of time, each by frequency."""
        x = self.bn0(logmel.transpose(1, 3)).transpose(1, 3)
        x = F.interpolate(x, (1024, 64), mode="bicubic", align_corners=True)[0, 0]
        picture = torch.cat([quarter.T for quarter in x.split(256)])  # (4 × 64, 256)
        x = self.patch_embed.proj(picture[None, None])[0].flatten(1).T  # (64 × 64, 8)
        x = self.patch_embed.norm(x)
        for layer in self.layers:
            side = round(len(x) ** 0.5)
            for index, one in enumerate(layer.blocks):
                x = x + attend(one.attn, one.norm1(x), side, WINDOW // 2 if index % 2 else 0)
                x = x + one.mlp.fc2(F.gelu(one.mlp.fc1(one.norm2(x))))
            if hasattr(layer, "downsample"):
                grid = x.view(side, side, -1)
                corners = [grid[row::2, column::2] for column in (0, 1) for row in (0, 1)]
                merged = layer.downsample.norm(torch.cat(corners, dim=-1).flatten(0, 1))
                x = layer.downsample.reduction(merged)
        out: Tensor = self.norm(x)
        return out

    def frames(self, logmel: Tensor) -> Tensor:
        """(1, 1, T, 64) → (1, 128, WIDTH) in the order of time: the mean over frequency."""
        quarters = self.tokens(logmel).view(4, 8, 32, WIDTH)
        return quarters.mean(1).flatten(0, 1)[None]


@torch.no_grad()
def spread(model: nn.Module) -> None:
    """Weights that tell random inputs apart; front ends keep theirs."""
    for name, value in model.named_parameters():
        if "_extractor." in name:
            continue
        if value.ndim > 1 and not name.endswith("_table"):
            nn.init.normal_(value.data, std=1.5 / value[0].numel() ** 0.5)
        elif value.ndim == 1:
            value.data += 0.3 * torch.randn(value.shape)


@torch.no_grad()
def randomise_htsat(model: nn.Module, norm: nn.BatchNorm2d) -> None:
    """Weights that let random sounds differ; ``norm``: the network's first."""
    spread(model)
    norm.running_mean.copy_(torch.linspace(-60, -30, 64))
    norm.running_var.copy_(torch.linspace(50, 150, 64))


def attend(attn: Any, x: Tensor, side: int, shift: int) -> Tensor:
    """(side², C): each token attends to its window's, which a shift moves without going round."""
    place = torch.arange(side * side)
    row, column = place // side, place % side
    moved_row, moved_column = (row - shift) % side, (column - shift) % side
    window = moved_row // WINDOW * side + moved_column // WINDOW
    own = window.argsort(stable=True).view(-1, WINDOW**2)  # a row a window
    heads = attn.relative_position_bias_table.shape[1]
    qkv = attn.qkv(x[own]).unflatten(-1, (3, heads, -1))
    query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (windows, heads, tokens, width)
    down, right = (at[own][:, :, None] - at[own][:, None] for at in (moved_row, moved_column))
    place = (down + WINDOW - 1) * (2 * WINDOW - 1) + right + WINDOW - 1
    bias = attn.relative_position_bias_table[place].permute(0, 3, 1, 2)
    scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5 + bias
    around = (row[own] < shift) + 2 * (column[own] < shift)
    apart = around[:, None, :, None] != around[:, None, None]
    mixed = scores.masked_fill(apart, -float("inf")).softmax(-1) @ value
    out = torch.empty_like(x)
    out[own] = attn.proj(mixed.transpose(1, 2).flatten(2))
    return out

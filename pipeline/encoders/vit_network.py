"""The plain vision transformer (Dosovitskiy et al. 2021) that CED, Dasheng, EAT and M2D are."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6  # of the layer norms of all four


class VitSizes(NamedTuple):
    """What the network is built of; a checkpoint's tensors say it all, but for the heads."""

    mels: int  # M
    patch: tuple[int, int]  # bands and log-mel frames of a patch, which do not overlap
    columns: int  # T, patches in time, of the longest input
    width: int  # D
    depth: int
    hidden: int  # width of the layer between the two of an MLP
    heads: int
    class_token: bool
    post_norm: bool  # a block's norms stand behind its two halves, not before them

    @property
    def rows(self) -> int:
        """Patches in frequency."""
        return self.mels // self.patch[0]


class VitTokens(NamedTuple):
    """The last block's output."""

    grid: Tensor  # (B, F, T, D), of each patch
    class_token: Tensor | None  # (B, D)


class VitAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, attended: Tensor | None) -> Tensor:
        """(B, L, D) → (B, L, D); ``attended``: (B, 1, 1, L) bool, the tokens to attend to."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attended)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class VitMlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class VitBlock(nn.Module):
    def __init__(self, sizes: VitSizes) -> None:
        super().__init__()
        self.post_norm = sizes.post_norm
        self.norm1 = nn.LayerNorm(sizes.width, EPSILON)
        self.attn = VitAttention(sizes.width, sizes.heads)
        self.norm2 = nn.LayerNorm(sizes.width, EPSILON)
        self.mlp = VitMlp(sizes.width, sizes.hidden)

    def forward(self, x: Tensor, attended: Tensor | None) -> Tensor:
        if self.post_norm:
            x = self.norm1(x + self.attn(x, attended))
            out: Tensor = self.norm2(x + self.mlp(x))
            return out
        x = x + self.attn(self.norm1(x), attended)
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """A normalised log-mel → its patches' tokens. Names are timm's where it has one."""

    def __init__(self, sizes: VitSizes) -> None:
        super().__init__()
        self.sizes, width = sizes, sizes.width
        self.patch_embed = nn.Conv2d(1, width, sizes.patch, sizes.patch)
        self.positions = nn.Parameter(torch.zeros(sizes.rows, sizes.columns, width))
        if sizes.class_token:
            self.cls_token = nn.Parameter(torch.zeros(width))
        # a norm stands before the blocks, or behind them
        norm = nn.LayerNorm(width, EPSILON)
        self.pre_norm = norm if sizes.post_norm else nn.Identity()
        self.blocks = nn.ModuleList(VitBlock(sizes) for _ in range(sizes.depth))
        self.norm = nn.Identity() if sizes.post_norm else norm

    def forward(self, values: Tensor, columns: Tensor) -> VitTokens:
        """Encodes whole patches.

        Args:
            values: (B, T × frames of a patch, M), T no more than the positions.
            columns: (B,) int64, how many of the T a clip's tokens attend to, each at least 1.
        """
        grid = self.patch_embed(values[:, None].transpose(2, 3))  # (B, D, F, T)
        rows, count = grid.shape[2:]
        grid = grid.permute(0, 2, 3, 1) + self.positions[:, :count]
        x = grid.flatten(1, 2)
        attended = torch.arange(count, device=x.device) < columns[:, None]  # (B, T)
        mask = None if bool(attended.all()) else attended.repeat(1, rows)
        if self.sizes.class_token:
            x = torch.cat([self.cls_token.expand(len(x), 1, -1).to(x.dtype), x], 1)
            mask = None if mask is None else F.pad(mask, (1, 0), value=True)
        x = self.pre_norm(x)
        for block in self.blocks:
            x = block(x, None if mask is None else mask[:, None, None])
        x = self.norm(x)
        first = x[:, 0] if self.sizes.class_token else None
        return VitTokens(x[:, -rows * count :].unflatten(1, (rows, count)), first)

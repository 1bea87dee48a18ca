"""WavCaps' HTSAT against its definition, window by window and clip by clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from encoder_sounds import sound
from panns_networks import extractors
from torch import Tensor, nn
from wavcaps_networks import FRONT_END, WIDTH, save

from pipeline.config.encoders import SpecAugmentConfig, WavCapsEncoderConfig
from pipeline.encoders.base import Masks
from pipeline.encoders.registry import build_sound_encoder
from pipeline.errors import EarwitnessError

EMBED, DEPTHS, HEADS, WINDOW = 8, (2, 2), (2, 4), 8


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


class Ase(nn.Module):
    """The sound side of ``ASE`` (models/ase_model.py) with models/htsat.py, of two small stages."""

    def __init__(self) -> None:
        super().__init__()
        htsat = nn.Module()
        htsat.bn0 = nn.BatchNorm2d(64)
        htsat.audio_feats_extractor = nn.Module()
        transforms = extractors(FRONT_END)
        htsat.audio_feats_extractor.mel_trans, htsat.audio_feats_extractor.log_trans = transforms
        htsat.patch_embed = nn.Module()
        htsat.patch_embed.proj = nn.Conv2d(1, EMBED, 4, stride=4)
        htsat.patch_embed.norm = nn.LayerNorm(EMBED)
        htsat.layers = nn.ModuleList()
        for stage, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
            layer, width = nn.Module(), EMBED * 2**stage
            layer.blocks = nn.ModuleList(block(width, heads) for _ in range(depth))
            if stage < len(DEPTHS) - 1:
                layer.downsample = nn.Module()
                layer.downsample.reduction = nn.Linear(4 * width, 2 * width, bias=False)
                layer.downsample.norm = nn.LayerNorm(4 * width)
            htsat.layers.append(layer)
        htsat.norm = nn.LayerNorm(16)
        htsat.tscam_conv, htsat.head = nn.Conv2d(16, 5, (2, 3)), nn.Linear(5, 5)
        self.audio_encoder = nn.Module()
        self.audio_encoder.audio_enc = htsat
        self.audio_proj = nn.Sequential(nn.Linear(16, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))

    def encode_audio(self, waveform: Tensor) -> Tensor:
        """(1, samples) → (1, WIDTH)."""
        return F.normalize(self.audio_proj(self.pooled(waveform)), dim=-1)

    def pooled(self, waveform: Tensor) -> Tensor:
        """(1, samples) → (1, 16)."""
        htsat = self.audio_encoder.audio_enc
        x = htsat.audio_feats_extractor.mel_trans(waveform)
        x = htsat.audio_feats_extractor.log_trans(x)
        x = htsat.bn0(x.transpose(1, 3)).transpose(1, 3)
        x = F.interpolate(x, (1024, 64), mode="bicubic", align_corners=True)[0, 0]
        picture = torch.cat([quarter.T for quarter in x.split(256)])  # (4 × 64, 256)
        x = htsat.patch_embed.proj(picture[None, None])[0].flatten(1).T  # (64 × 64, 8)
        x = htsat.patch_embed.norm(x)
        for layer in htsat.layers:
            side = round(len(x) ** 0.5)
            for index, one in enumerate(layer.blocks):
                x = x + attend(one.attn, one.norm1(x), side, WINDOW // 2 if index % 2 else 0)
                x = x + one.mlp.fc2(F.gelu(one.mlp.fc1(one.norm2(x))))
            if hasattr(layer, "downsample"):
                grid = x.view(side, side, -1)
                corners = [grid[row::2, column::2] for column in (0, 1) for row in (0, 1)]
                merged = layer.downsample.norm(torch.cat(corners, dim=-1).flatten(0, 1))
                x = layer.downsample.reduction(merged)
        mean: Tensor = htsat.norm(x).mean(0, keepdim=True)
        return mean


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


@pytest.fixture(scope="module")
@torch.no_grad()
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ase, Path]:
    torch.manual_seed(0)
    model = Ase().eval()
    for name, value in model.named_parameters():
        if "audio_feats_extractor" in name:
            continue
        if ".norm" not in name and value.ndim > 1 and not name.endswith("_table"):
            nn.init.normal_(value.data, std=1.5 / value[0].numel() ** 0.5)
        elif value.ndim == 1:
            value.data += 0.3 * torch.randn(value.shape)
    model.audio_encoder.audio_enc.bn0.running_mean.copy_(torch.linspace(-60, -30, 64))
    model.audio_encoder.audio_enc.bn0.running_var.copy_(torch.linspace(50, 150, 64))
    first = model.audio_proj[0]  # separates random sounds, whose encodings are almost equal
    first.bias.data = -first.weight.data @ model.pooled(sound(100000, seed=7)[0])[0]
    model.audio_proj[2].bias.data.zero_()
    path = tmp_path_factory.mktemp("wavcaps") / "htsat-bert.pt"
    return model, save(path, {**model.state_dict(), "temp": torch.tensor(0.07)})


def settings(path: Path, **changes: Any) -> WavCapsEncoderConfig:
    return WavCapsEncoderConfig(
        module="wavcaps", weights=str(path), **{"window_seconds": 10, **changes}
    )


def test_sound_is_encode_audio_of_each_clip_alone(made: tuple[Ase, Path]) -> None:
    model, path = made
    encoder = build_sound_encoder(settings(path), None)
    lengths = (320000, 100001, 5000)
    waveform, counts = sound(*lengths)
    waveform[1] *= torch.linspace(0, 9, 320000)  # the clips differ
    with torch.inference_mode():
        frames = encoder(waveform, counts)
        clips = [waveform[row : row + 1, :length] for row, length in enumerate(lengths)]
        expected = torch.cat([model.encode_audio(clip) for clip in clips])
    assert encoder.pooled and encoder.width == WIDTH and frames.lengths.tolist() == [1, 1, 1]
    assert (expected @ expected.T - torch.eye(3)).max() < 0.9
    torch.testing.assert_close(frames.values[:, 0], expected, atol=1e-4, rtol=0)


def test_spec_augment_reaches_the_trunk(made: tuple[Ase, Path]) -> None:
    encoder = build_sound_encoder(settings(made[1]), None)
    waveform, lengths = sound(64000, 64000)
    clean = encoder(waveform, lengths).values
    masked = encoder(waveform, lengths, Masks(SpecAugmentConfig(), torch.tensor([4, 9]))).values
    assert ((masked - clean).abs().amax((1, 2)) > 0.01).all()


def test_windows_longer_than_the_square_are_refused(made: tuple[Ase, Path]) -> None:
    _, path = made
    with pytest.raises(EarwitnessError, match=r"htsat-bert\.pt.* less than 10\.24 s at once"):
        build_sound_encoder(settings(path, window_seconds=10.24), None)
    longest = build_sound_encoder(settings(path, window_seconds=10.2399), None)
    waveform, lengths = sound(int(10.2399 * 32000))
    assert longest(waveform, lengths).values.shape == (1, 1, WIDTH)


def test_a_missing_tensor_is_named(made: tuple[Ase, Path], tmp_path: Path) -> None:
    state = made[0].state_dict()
    del state["audio_encoder.audio_enc.layers.1.blocks.0.attn.qkv.weight"]
    save(tmp_path / "cut.pt", state)
    message = r"cut\.pt: .*layers\.1\.blocks\.0\.attention\.self\.query\.weight is missing"
    with pytest.raises(EarwitnessError, match=message):
        build_sound_encoder(settings(tmp_path / "cut.pt"), None)

"""ConvNeXt against transformers' network, and its converter against the original block."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from encoder_sounds import sound
from safetensors.torch import save_file
from torch import Tensor

from pipeline.config.encoders import ConvNextEncoderConfig
from pipeline.download import Checksum
from pipeline.encoders import convnext
from pipeline.encoders.convnext import ConvNextEncoder
from pipeline.encoders.registry import build_sound_encoder, tagging_model
from pipeline.encoders.sources import Hub, HubFile
from pipeline.errors import EarwitnessError
from tests.test_fetch import serving

DEPTHS, WIDTHS = (1, 2, 1, 1), (8, 12, 16, 24)
SMALL = {
    "module": "convnext",
    "depths": DEPTHS,
    "widths": WIDTHS,
    "sample_rate": 16000,
    "n_fft": 512,
    "hop": 160,
    "mels": 64,
    "fmax": 8000,
}


def original_state() -> dict[str, Tensor]:
    """Random weights under the names of Pellegrini et al.'s checkpoint."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return 0.3 * torch.randn(*shape, generator=generator)

    state = {
        "bn0.weight": 1 + draw(64),
        "bn0.bias": draw(64),
        "bn0.running_mean": draw(64) * 50,
        "bn0.running_var": 100 * (1 + draw(64).abs()),
        "downsample_layers.0.0.weight": draw(8, 1, 4, 4),
        "downsample_layers.0.0.bias": draw(8),
        "downsample_layers.0.1.weight": 1 + draw(8),
        "downsample_layers.0.1.bias": draw(8),
        "norm.weight": 1 + draw(24),
        "norm.bias": draw(24),
        "head_audioset.weight": draw(5, 24),
        "head_audioset.bias": draw(5),
    }
    for stage in range(1, 4):
        before, after = WIDTHS[stage - 1], WIDTHS[stage]
        name = f"downsample_layers.{stage}"
        state[f"{name}.0.weight"], state[f"{name}.0.bias"] = 1 + draw(before), draw(before)
        state[f"{name}.1.weight"] = draw(after, before, 2, 2)
        state[f"{name}.1.bias"] = draw(after)
    for stage, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True)):
        for block in range(depth):
            name = f"stages.{stage}.{block}"
            state[f"{name}.gamma"] = draw(width)
            state[f"{name}.dwconv.weight"] = draw(width, 1, 7, 7)
            state[f"{name}.dwconv.bias"] = draw(width)
            state[f"{name}.norm.weight"], state[f"{name}.norm.bias"] = 1 + draw(width), draw(width)
            state[f"{name}.pwconv1.weight"] = draw(4 * width, width)
            state[f"{name}.pwconv1.bias"] = draw(4 * width)
            state[f"{name}.pwconv2.weight"] = draw(width, 4 * width)
            state[f"{name}.pwconv2.bias"] = draw(width)
    return state


def channel_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Layer norm over the channels of (B, C, T, M), written out."""
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) ** 2).mean(1, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * weight[:, None, None] + bias[:, None, None]


def original_logits(state: dict[str, Tensor], logmel: Tensor) -> Tensor:
    """Pellegrini et al.'s forward pass from (B, T, M) log-mel to logits, slow and plain."""
    at = state.__getitem__
    x = (logmel - at("bn0.running_mean")) / (at("bn0.running_var") + 1e-5).sqrt()
    x = (x * at("bn0.weight") + at("bn0.bias"))[:, None]
    for stage in range(4):
        name = f"downsample_layers.{stage}"
        if stage == 0:
            x = F.conv2d(x, at(f"{name}.0.weight"), at(f"{name}.0.bias"), stride=4, padding=(4, 0))
            x = channel_norm(x, at(f"{name}.1.weight"), at(f"{name}.1.bias"))
        else:
            x = channel_norm(x, at(f"{name}.0.weight"), at(f"{name}.0.bias"))
            x = F.conv2d(x, at(f"{name}.1.weight"), at(f"{name}.1.bias"), stride=2)
        for block in range(DEPTHS[stage]):
            name = f"stages.{stage}.{block}"
            width = WIDTHS[stage]
            y = F.conv2d(
                x, at(f"{name}.dwconv.weight"), at(f"{name}.dwconv.bias"), padding=3, groups=width
            )
            y = channel_norm(y, at(f"{name}.norm.weight"), at(f"{name}.norm.bias"))
            y = torch.einsum("bctm,dc->bdtm", y, at(f"{name}.pwconv1.weight"))
            y = F.gelu(y + at(f"{name}.pwconv1.bias")[:, None, None])
            y = torch.einsum("bctm,dc->bdtm", y, at(f"{name}.pwconv2.weight"))
            y = y + at(f"{name}.pwconv2.bias")[:, None, None]
            x = x + at(f"{name}.gamma")[:, None, None] * y
    x = x.mean(3)
    pooled = F.layer_norm(x.amax(2) + x.mean(2), (24,), at("norm.weight"), at("norm.bias"), 1e-6)
    return pooled @ at("head_audioset.weight").T + at("head_audioset.bias")


def test_the_original_checkpoint_gives_the_original_logits(tmp_path: Path) -> None:
    state = original_state()
    path = tmp_path / "convnext_tiny.pth"
    torch.save({"model": state}, path)
    encoder = build_sound_encoder(ConvNextEncoderConfig(weights=str(path), **SMALL), None)
    assert isinstance(encoder, ConvNextEncoder)
    waveform, lengths = sound(32000)
    frames = encoder(waveform, lengths)
    assert frames.values.shape == (1, (201 + 8) // 4 // 8, 24) and encoder.width == 24
    pooled = encoder.model.layernorm(frames.values.amax(1) + frames.values.mean(1))
    logits = F.linear(pooled, state["head_audioset.weight"], state["head_audioset.bias"])
    expected = original_logits(state, encoder.frontend(waveform, lengths).values)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_the_trunk_is_transformers(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(original_state(), path)
    encoder = build_sound_encoder(ConvNextEncoderConfig(weights=str(path), **SMALL), None)
    assert isinstance(encoder, ConvNextEncoder)
    waveform, lengths = sound(16000)
    logmel = encoder.frontend(waveform, lengths)
    image = encoder.bn0(logmel.values[:, None].transpose(1, 3)).transpose(1, 3)
    whole = encoder.model(F.pad(image, (0, 0, 4, 4))).last_hidden_state
    torch.testing.assert_close(
        encoder.trunk(*logmel).values, whole.mean(3).transpose(1, 2), atol=1e-5, rtol=1e-4
    )


def test_a_clip_is_the_same_in_a_batch_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(original_state(), path)
    encoder = build_sound_encoder(ConvNextEncoderConfig(weights=str(path), **SMALL), None)
    waveform, lengths = sound(40000, 23456, 900)
    values, frames = encoder(waveform, lengths)
    assert (frames >= 1).all()
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(waveform[row : row + 1, :length], lengths[row : row + 1])
        count = int(frames[row])
        assert count == int(alone.lengths)
        torch.testing.assert_close(
            values[row, :count], alone.values[0, :count], atol=1e-5, rtol=1e-4
        )


def test_the_tagging_loss_reaches_every_weight_but_the_unused_norm() -> None:
    model = tagging_model(ConvNextEncoderConfig(weights="tagging", **SMALL), classes=5)
    model(*sound(8000, 6000)).square().sum().backward()
    idle = {name for name, value in model.named_parameters() if value.grad is None}
    assert idle == {"encoder.model.layernorm.weight", "encoder.model.layernorm.bias"}


def test_a_checkpoint_of_other_widths_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(original_state(), path)
    wider = {**SMALL, "widths": (8, 12, 16, 32)}
    with pytest.raises(EarwitnessError, match=r"is \(24, 16, 2, 2\), these settings need \(32"):
        build_sound_encoder(ConvNextEncoderConfig(weights=str(path), **wider), None)
    with pytest.raises(ValueError, match="equally long"):
        ConvNextEncoderConfig(weights=str(path), **{**SMALL, "depths": (1, 1)})


def test_a_checkpoint_by_its_name_is_downloaded_and_is_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Zenodo's records have them: ``model``, beside numbers of NumPy's."""
    name = "convnext_tiny_465mAP_BL_AC_70kit"
    made = tmp_path / "made.pth"
    torch.save({"model": original_state(), "test_mAP": np.float64(0.465)}, made)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with serving({f"{name}.pth": made.read_bytes()}) as server:
        checksum = Checksum("md5", hashlib.md5(made.read_bytes()).hexdigest())
        file = HubFile(f"{server.address}/{name}.pth?download=1", checksum)
        monkeypatch.setattr(convnext, "HUB", Hub(repository="a/b", named={name: file}))
        settings = ConvNextEncoderConfig(weights=f"hub:{name}", **SMALL)
        encoder = build_sound_encoder(settings, None)
    assert (tmp_path / "checkpoints" / f"{name}.pth").read_bytes() == made.read_bytes()
    expected = build_sound_encoder(ConvNextEncoderConfig(weights=str(made), **SMALL), None)
    waveform = sound(16000)
    assert torch.equal(encoder(*waveform).values, expected(*waveform).values)


def test_the_checkpoints_names_are_those_of_the_parameters() -> None:
    """MD5s: Labbeti/dcase2024-task6-baseline, src/dcase24t6/nn/ckpt.py."""
    named = convnext.HUB.named
    assert tuple(named) == ConvNextEncoderConfig.checkpoints
    md5s = {name.rpartition("_")[2]: file.checksum.value[:8] for name, file in named.items()}
    assert md5s == {"471mAP": "e069ecd1", "70kit": "0688ae50", "75kit": "f6f57c87"}
    assert all(name in file.url for name, file in named.items())
    with pytest.raises(ValueError, match="no checkpoint 'convnext_tiny'; give hub:owner/name"):
        ConvNextEncoderConfig(weights="hub:convnext_tiny", **SMALL)

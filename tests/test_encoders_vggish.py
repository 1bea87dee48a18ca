"""VGGish against its definition: NumPy and transformers in front, the released layers behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_sounds import sound
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from pipeline.config.encoders import VggishEncoderConfig
from pipeline.encoders.registry import build_sound_encoder, tagging_model
from pipeline.encoders.vggish import HUB, VggishEncoder
from pipeline.errors import EarwitnessError

PATCH = 96 * 160  # samples
SMALL = {"module": "vggish", "channels": 4, "hidden": 16, "width": 8}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def released(channels: int, hidden: int, width: int) -> nn.Sequential:
    """The layers of torchvggish, in their order and under their names' numbers."""
    c = channels
    features = nn.Sequential(
        nn.Conv2d(1, c, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(c, 2 * c, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(2 * c, 4 * c, 3, padding=1), nn.ReLU(),
        nn.Conv2d(4 * c, 4 * c, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(4 * c, 8 * c, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8 * c, 8 * c, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
    )  # fmt: skip
    embeddings = nn.Sequential(
        nn.Linear(8 * c * 4 * 6, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, width), nn.ReLU(),
    )  # fmt: skip
    return nn.Sequential(features, embeddings).eval()


def state_of(network: nn.Sequential) -> dict[str, Tensor]:
    parts = zip(("features", "embeddings"), network, strict=True)
    return {f"{part}.{name}": v for part, own in parts for name, v in own.state_dict().items()}


def logmel(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """(T, 64): VGGish's, a window at a time."""
    filters = mel_filter_bank(
        257, 64, 125, 7500, 16000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)  # periodic
    starts = range(0, len(samples) - 400 + 1, 160)
    magnitudes = [np.abs(np.fft.rfft(samples[at : at + 400] * window, 512)) for at in starts]
    return np.log(np.stack(magnitudes) @ filters + 0.01)


def expected(network: nn.Sequential, samples: NDArray[np.float32], hop: int) -> Tensor:
    """(N, D): one patch after another, and silence behind the last."""
    values = logmel(np.pad(samples, (0, PATCH + 400)))
    count, rows = max(1, -(-(len(samples) - 400) // 160) + 1), []
    start = 0
    while start == 0 or start + max(0, 96 - hop) < count:
        patch = torch.from_numpy(values[start : start + 96]).float()[None, None]
        maps = network[0](patch)[0]  # (C, 6, 4)
        rows.append(network[1][:-1](maps.permute(1, 2, 0).flatten()))
        start += hop
    return torch.stack(rows)


@pytest.mark.parametrize(("hop_seconds", "hop"), [(0.96, 96), (1.0, 100), (0.48, 48)])
@torch.inference_mode()
def test_it_is_vggish(tmp_path: Path, hop_seconds: float, hop: int) -> None:
    network = released(4, 16, 8)
    path = tmp_path / "vggish.pth"
    torch.save({**state_of(network), "pproc.pca_means": torch.zeros(128, 1)}, path)
    encoder = build_sound_encoder(
        VggishEncoderConfig(weights=str(path), hop_seconds=hop_seconds, **SMALL), None
    )
    assert encoder.frame_seconds == pytest.approx(hop_seconds) and encoder.width == 8
    for samples in (3 * PATCH, 3 * PATCH + 5000, 48000, 700, 100):
        waveform, lengths = sound(samples, seed=samples)
        values, frames = encoder(waveform, lengths)
        wanted = expected(network, waveform[0].numpy(), hop)
        assert int(frames) == len(wanted) == values.shape[1], samples
        torch.testing.assert_close(values[0], wanted, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_whole_patches_are_vggishs(tmp_path: Path) -> None:
    """30 s have 31 patches of 0.96 s, as in torchvggish, and one that is padded."""
    encoder = VggishEncoder(VggishEncoderConfig(weights="none", **SMALL)).eval()
    assert int(encoder(*sound(480000)).lengths) == 32
    assert int(encoder(*sound(31 * PATCH)).lengths) == 31
    long = VggishEncoderConfig(weights="none", **{**SMALL, "hop_seconds": 1.0})
    assert int(VggishEncoder(long).eval()(*sound(480000)).lengths) == 30


def test_the_released_file_fits_it_and_its_url_and_digest_are_known() -> None:
    with torch.device("meta"):
        wanted = VggishEncoder(VggishEncoderConfig(module="vggish")).state_dict()
        theirs = state_of(released(64, 4096, 128))
    assert {k: v.shape for k, v in wanted.items()} == {k: v.shape for k, v in theirs.items()}
    # torch.hub's convention: a file's name ends with the beginning of its SHA-256
    assert HUB.file is not None and HUB.file.checksum.kind == "sha256"
    assert HUB.file.checksum.value[:8] in HUB.file.url


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(state_of(released(8, 16, 8)), path)
    with pytest.raises(EarwitnessError, match=r"features\.0\.weight is \(8, 1, 3, 3\)"):
        build_sound_encoder(VggishEncoderConfig(weights=str(path), **SMALL), None)


@pytest.mark.parametrize("normalise", [False, True])
@torch.inference_mode()
def test_a_clip_is_the_same_in_a_batch_and_alone(normalise: bool) -> None:
    encoder = VggishEncoder(
        VggishEncoderConfig(weights="none", normalise=normalise, **SMALL)
    ).eval()
    waveform, lengths = sound(40000, 15360, 900)
    values, frames = encoder(waveform, lengths)
    assert frames.tolist() == [3, 1, 1]
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(waveform[row : row + 1, :length], lengths[row : row + 1])
        assert int(frames[row]) == int(alone.lengths)
        torch.testing.assert_close(values[row, : frames[row]], alone.values[0])


def test_batch_norms_count_the_patches_of_clips_alone() -> None:
    """In training: as torch over just those, in both outputs and running statistics."""
    encoder = VggishEncoder(VggishEncoderConfig(weights="none", normalise=True, **SMALL)).train()
    waveform, lengths = sound(40000, 15360, 900)
    logmel, frames = encoder.frontend(waveform, lengths)
    values, count = encoder.trunk(logmel, frames)
    patches = [logmel[row, at * 96 : at * 96 + 96] for row in range(3) for at in range(count[row])]
    maps, norms = torch.stack(patches)[:, None], []
    for layer in encoder.features:
        maps = layer(maps)
        if isinstance(layer, nn.Conv2d):
            norms.append(nn.BatchNorm2d(layer.out_channels))
            maps = norms[-1](maps)
    wanted = encoder.embeddings(maps.permute(0, 2, 3, 1).flatten(1))
    valid = torch.cat([values[row, : count[row]] for row in range(3)])
    torch.testing.assert_close(valid, wanted, atol=1e-4, rtol=1e-3)
    for mine, theirs in zip(encoder.norms, norms, strict=True):
        torch.testing.assert_close(mine.running_var, theirs.running_var, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(mine.running_mean, theirs.running_mean, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("normalise", [False, True])
def test_the_tagging_loss_reaches_every_weight(normalise: bool) -> None:
    model = tagging_model(
        VggishEncoderConfig(weights="tagging", normalise=normalise, **SMALL), classes=5
    )
    model(*sound(32000, 20000)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name

"""CNN14 and CNN10 against panns_inference's own network on the same weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from encoder_sounds import sound
from panns_networks import randomise, save_checkpoint

from pipeline.config.encoders import PannsEncoderConfig
from pipeline.encoders.conv_blocks import panns_models
from pipeline.encoders.panns import PannsEncoder
from pipeline.encoders.registry import build_sound_encoder, tagging_model
from pipeline.errors import EarwitnessError

SMALL = {"module": "panns", "channels": 4, "sample_rate": 16000, "n_fft": 512, "fmax": 8000}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """panns_inference's CNN14, and its checkpoint with the sampler's state beside the weights."""
    torch.manual_seed(0)
    network = randomise(panns_models().Cnn14(32000, 1024, 320, 64, 50, 14000, 527))
    path = tmp_path_factory.mktemp("panns") / "Cnn14_mAP=0.431.pth"
    return network, save_checkpoint(network, path)


def test_frames_pooled_as_panns_are_its_embedding(
    official: tuple[torch.nn.Module, Path],
) -> None:
    network, path = official
    encoder = build_sound_encoder(PannsEncoderConfig(module="panns", weights=str(path)), None)
    waveform, lengths = sound(64000, seed=1)
    with torch.inference_mode():
        frames = encoder(waveform, lengths)
        pooled = frames.values.amax(1) + frames.values.mean(1)
        embedding = F.relu(network.fc1(pooled))
        expected = network(waveform)["embedding"]
    assert frames.values.shape == (1, 201 // 32, encoder.width) and encoder.width == 2048
    assert encoder.frame_seconds == pytest.approx(0.32)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(embedding, expected, atol=1e-4, rtol=1e-3)


def test_cnn10_is_four_of_its_blocks() -> None:
    encoder = randomise(PannsEncoder(PannsEncoderConfig(model="cnn10", weights="tagging", **SMALL)))
    assert isinstance(encoder, PannsEncoder)
    waveform, lengths = sound(16000)
    with torch.inference_mode():
        x = encoder.frontend(waveform, lengths).values[:, None]
        x = encoder.bn0(x.transpose(1, 3)).transpose(1, 3)
        for index in range(4):
            x = getattr(encoder, f"conv_block{index + 1}")(x, pool_size=(2, 2), pool_type="avg")
        expected = x.mean(3).transpose(1, 2)
        frames = encoder(waveform, lengths)
    assert frames.values.shape == (1, 3, 32)
    torch.testing.assert_close(frames.values, expected)


@pytest.mark.parametrize("model", ["cnn10", "cnn14"])
def test_a_clip_is_the_same_in_a_batch_and_alone(model: str) -> None:
    encoder = randomise(PannsEncoder(PannsEncoderConfig(model=model, weights="tagging", **SMALL)))
    waveform, lengths = sound(40000, 23456, 900)
    with torch.inference_mode():
        values, frames = encoder(waveform, lengths)
        assert (frames >= 1).all()
        for row, length in enumerate(lengths.tolist()):
            alone = encoder(waveform[row : row + 1, :length], lengths[row : row + 1])
            assert int(frames[row]) == int(alone.lengths)
            count = int(frames[row])
            torch.testing.assert_close(values[row, :count], alone.values[0, :count])


def test_the_tagging_loss_reaches_every_weight() -> None:
    model = tagging_model(PannsEncoderConfig(model="cnn10", weights="tagging", **SMALL), classes=5)
    logits = model(*sound(8000, 6000))
    logits.square().sum().backward()
    assert logits.shape == (2, 5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_checkpoints_of_another_front_end_or_size_are_refused(
    official: tuple[torch.nn.Module, Path],
) -> None:
    _, path = official
    with pytest.raises(EarwitnessError, match="mel filters"):
        build_sound_encoder(PannsEncoderConfig(module="panns", weights=str(path), fmin=20), None)
    with pytest.raises(EarwitnessError, match=r"conv_block1\.conv1\.weight is \(64, 1, 3, 3\)"):
        build_sound_encoder(
            PannsEncoderConfig(module="panns", weights=str(path), channels=32), None
        )
    with pytest.raises(EarwitnessError, match="conv_block5"):
        build_sound_encoder(
            PannsEncoderConfig(module="panns", weights=str(path), model="cnn10"), None
        )


def test_the_package_itself_is_never_run(tmp_path: Path) -> None:
    """No file in the home folder, no process: importing panns_inference would do both."""
    script = """
import sys
import torch, torchlibrosa.augmentation, librosa.filters, soundfile  # which look up libraries
started = []
sys.addaudithook(lambda event, args: started.append((event, args)) if event in
    ("subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.exec") else None)
from pipeline.encoders.conv_blocks import panns_models
panns_models().ConvBlock(1, 4)
assert not started, started
assert "panns_inference" not in sys.modules and "matplotlib" not in sys.modules
"""
    environment = {**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "XDG_CONFIG_HOME"):
        environment.pop(name, None)
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []

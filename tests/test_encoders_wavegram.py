"""Wavegram-Logmel-CNN14 against PANNs' network written out, on a checkpoint of its form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from encoder_sounds import sound
from panns_networks import SMALL, Wavegram, randomise, save_checkpoint

from pipeline.config.encoders import PannsEncoderConfig, SpecAugmentConfig
from pipeline.encoders.base import Masks
from pipeline.encoders.registry import build_sound_encoder, tagging_model
from pipeline.encoders.wavegram import WavegramEncoder
from pipeline.errors import EarwitnessError

MODEL = {"module": "panns", "model": "wavegram_logmel_cnn14"}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    torch.manual_seed(0)
    network = randomise(Wavegram(SMALL, 4))
    path = tmp_path_factory.mktemp("panns") / "Wavegram_Logmel_Cnn14_mAP=0.439.pth"
    return network, save_checkpoint(network, path)


# 320 · 201 samples are 202 frames of log-mel and 201 of wavegram: one log-mel frame is dropped
@pytest.mark.parametrize("samples", [32000, 320 * 201, 51234])
def test_frames_are_panns_own(official: tuple[torch.nn.Module, Path], samples: int) -> None:
    network, path = official
    encoder = build_sound_encoder(PannsEncoderConfig(**MODEL, weights=str(path), **SMALL), None)
    waveform, lengths = sound(samples)
    with torch.no_grad():
        expected, _ = network(waveform)
        frames = encoder(waveform, lengths)
    assert frames.lengths.tolist() == [expected.shape[1]] and encoder.width == 128
    assert encoder.frame_seconds == pytest.approx(0.64)
    assert expected.std() > 0.01
    torch.testing.assert_close(frames.values, expected, atol=1e-4, rtol=1e-3)


def test_a_clip_is_the_same_in_a_batch_and_alone(
    official: tuple[torch.nn.Module, Path],
) -> None:
    encoder = build_sound_encoder(
        PannsEncoderConfig(**MODEL, weights=str(official[1]), **SMALL), None
    )
    waveform, lengths = sound(64320, 40001, 23456, 900)
    with torch.no_grad():
        values, frames = encoder(waveform, lengths)
        assert (frames >= 1).all()
        for row, length in enumerate(lengths.tolist()):
            alone = encoder(waveform[row : row + 1, :length], lengths[row : row + 1])
            count = int(frames[row])
            assert count == int(alone.lengths)
            torch.testing.assert_close(
                values[row, :count], alone.values[0, :count], atol=1e-5, rtol=1e-4
            )


def test_its_weights_have_the_names_and_shapes_of_panns_checkpoint() -> None:
    """A few of Wavegram_Logmel_Cnn14_mAP=0.439.pth, as PANNs' definition gives them."""
    shapes = {
        name: tuple(value.shape)
        for name, value in WavegramEncoder(PannsEncoderConfig(**MODEL)).state_dict().items()
    }
    known = {
        "pre_conv0.weight": (64, 1, 11),
        "pre_bn0.running_mean": (64,),
        "pre_block1.conv1.weight": (64, 64, 3),
        "pre_block2.conv1.weight": (128, 64, 3),
        "pre_block3.conv2.weight": (128, 128, 3),
        "pre_block3.bn2.weight": (128,),
        "pre_block4.conv1.weight": (64, 4, 3, 3),
        "bn0.weight": (64,),
        "conv_block1.conv1.weight": (64, 1, 3, 3),
        "conv_block2.conv1.weight": (128, 128, 3, 3),
        "conv_block3.conv1.weight": (256, 128, 3, 3),
        "conv_block6.conv2.weight": (2048, 2048, 3, 3),
    }
    assert {name: shapes[name] for name in known} == known
    convolutions = [name for name in shapes if "conv1.weight" in name]
    assert len(convolutions) == 10  # four before, six after


def test_settings_that_do_not_fit_are_refused(official: tuple[torch.nn.Module, Path]) -> None:
    path = str(official[1])
    with pytest.raises(EarwitnessError, match="a frame every 320 samples"):
        build_sound_encoder(
            PannsEncoderConfig(**MODEL, weights=path, **{**SMALL, "hop": 160}), None
        )
    with pytest.raises(EarwitnessError, match="mel filters"):
        build_sound_encoder(
            PannsEncoderConfig(**MODEL, weights=path, **{**SMALL, "fmin": 20}), None
        )
    with pytest.raises(EarwitnessError, match=r"pre_block4\.conv1\.weight is \(4, 4, 3, 3\)"):
        build_sound_encoder(
            PannsEncoderConfig(**MODEL, weights=path, **{**SMALL, "channels": 8}), None
        )
    with pytest.raises(EarwitnessError, match="take cnn14 or cnn10 here"):
        tagging_model(PannsEncoderConfig(**MODEL, weights="tagging", **SMALL), classes=3)
    encoder = build_sound_encoder(PannsEncoderConfig(**MODEL, weights=path, **SMALL), None)
    with pytest.raises(EarwitnessError, match="set its views to 0"):
        encoder(*sound(16000), Masks(SpecAugmentConfig(), torch.tensor([1])))

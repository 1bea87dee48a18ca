"""The filter bank against transformers' ASTFeatureExtractor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from encoder_sounds import sound
from transformers import ASTFeatureExtractor

from pipeline.config.encoders import FbankEncoderConfig
from pipeline.encoders.registry import build_sound_encoder


def extracted(waveform: torch.Tensor, mels: int, rate: int = 16000) -> np.ndarray:
    """(frames, M) of one clip; the extractor pads with zeros to 1024 frames, which none is."""
    extractor = ASTFeatureExtractor(sampling_rate=rate, num_mel_bins=mels, do_normalize=False)
    values = extractor(waveform.numpy(), sampling_rate=rate, return_tensors="np").input_values[0]
    return np.asarray(values[: int(np.flatnonzero((values != 0).any(1)).max()) + 1])


@pytest.mark.parametrize("mels", [128, 40])
def test_frames_are_asts_feature_extractors(mels: int) -> None:
    waveform, lengths = sound(16000, 7777, 400)
    waveform[0, 5000:] *= 1e-3  # faint, where the logarithm is steep
    encoder = build_sound_encoder(FbankEncoderConfig(module="fbank", mels=mels), None)
    values, frames = encoder(waveform, lengths)
    assert encoder.frame_seconds == pytest.approx(0.01) and values.shape[2] == encoder.width
    for row, length in enumerate(lengths.tolist()):
        expected = extracted(waveform[row, :length], mels)
        assert int(frames[row]) == len(expected)
        np.testing.assert_allclose(values[row, : len(expected)].numpy(), expected, atol=2e-3)
        assert (values[row, len(expected) :] == 0).all()  # as it pads


def test_a_clip_is_the_same_in_a_batch_and_alone() -> None:
    encoder = build_sound_encoder(FbankEncoderConfig(module="fbank"), None)
    waveform, lengths = sound(9000, 4321, 30)
    values, frames = encoder(waveform, lengths)
    assert (frames >= 1).all()
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(waveform[row : row + 1, :length], lengths[row : row + 1])
        assert int(alone.lengths) == int(frames[row])
        torch.testing.assert_close(values[row, : int(frames[row])], alone.values[0])


def test_silence_is_the_logarithm_of_the_floor() -> None:
    encoder = build_sound_encoder(FbankEncoderConfig(module="fbank"), None)
    values, frames = encoder(torch.zeros(1, 1), torch.tensor([1]))
    assert frames.tolist() == [1]
    np.testing.assert_allclose(values.numpy(), np.log(np.finfo(np.float32).eps), rtol=1e-6)


def test_float32_under_autocast() -> None:
    encoder = build_sound_encoder(FbankEncoderConfig(module="fbank"), None)
    waveform, lengths = sound(4000)
    with torch.autocast("cpu", torch.bfloat16):
        values = encoder(waveform, lengths).values
    torch.testing.assert_close(values, encoder(waveform, lengths).values)

"""The front end against librosa and torchlibrosa; SpecAugment against what it promises."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from encoder_sounds import sound
from torchlibrosa.stft import LogmelFilterBank, Spectrogram

from pipeline.config.encoders import LogmelEncoderConfig, SpecAugmentConfig, WaveformEncoderConfig
from pipeline.encoders.base import Masks
from pipeline.encoders.registry import build_sound_encoder
from pipeline.encoders.spectrogram import FLOOR_DB, LogMel, spec_augment
from pipeline.errors import EarwitnessError

SETTINGS = {"sample_rate": 16000, "n_fft": 512, "hop": 160, "mels": 40, "fmin": 50, "fmax": 7000}


@pytest.mark.parametrize("window", [None, 441])
def test_logmel_is_librosas(window: int | None) -> None:
    waveform, lengths = sound(16000)
    settings = LogmelEncoderConfig(module="logmel", win_length=window, **SETTINGS)
    encoder = build_sound_encoder(settings, None)
    power = librosa.feature.melspectrogram(
        y=waveform[0].numpy(),
        sr=16000,
        n_fft=512,
        win_length=window,
        hop_length=160,
        n_mels=40,
        fmin=50,
        fmax=7000,
        pad_mode="reflect",
    )
    expected = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None).T
    values, frames = encoder(waveform, lengths)
    assert frames.tolist() == [len(expected)]
    np.testing.assert_allclose(values[0].numpy(), expected, atol=2e-3)


def test_logmel_is_torchlibrosas() -> None:
    waveform, lengths = sound(9000)
    spectrum = Spectrogram(n_fft=512, hop_length=160, win_length=512)(waveform)
    bank = LogmelFilterBank(
        sr=16000, n_fft=512, n_mels=40, fmin=50, fmax=7000, ref=1.0, amin=1e-10, top_db=None
    )
    expected = bank(spectrum)[0, 0]
    torch.testing.assert_close(
        LogMel(**SETTINGS)(waveform, lengths).values[0], expected, atol=2e-3, rtol=0
    )


def test_a_clip_is_the_same_in_a_batch_and_alone() -> None:
    front_end = LogMel(**SETTINGS)
    waveform, lengths = sound(8000, 3217, 257)
    values, frames = front_end(waveform, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = front_end(waveform[row : row + 1, :length], lengths[row : row + 1])
        assert int(frames[row]) == alone.values.shape[1]
        torch.testing.assert_close(values[row, : int(frames[row])], alone.values[0])
        assert (values[row, int(frames[row]) :] == FLOOR_DB).all()


def test_a_clip_of_one_sample_and_silence_are_finite() -> None:
    values, frames = LogMel(**SETTINGS)(torch.zeros(2, 1), torch.tensor([1, 1]))
    assert (values == FLOOR_DB).all() and (frames >= 1).all()


def test_float32_under_autocast() -> None:
    waveform, lengths = sound(4000)
    with torch.autocast("cpu", torch.bfloat16):
        values = LogMel(**SETTINGS)(waveform, lengths).values
    torch.testing.assert_close(values, LogMel(**SETTINGS)(waveform, lengths).values)


def test_bands_above_half_the_rate_are_refused() -> None:
    with pytest.raises(EarwitnessError, match="above half"):
        LogMel(16000, 512, 160, 40, 50, 14000)


def test_waveform_frames_hold_every_sample() -> None:
    settings = WaveformEncoderConfig(module="waveform", sample_rate=16000, frame=100)
    encoder = build_sound_encoder(settings, None)
    waveform, lengths = sound(1050, 330)
    values, frames = encoder(waveform, lengths)
    assert frames.tolist() == [11, 4]
    for row, length in enumerate(lengths.tolist()):
        flat = values[row, : int(frames[row])].flatten()
        assert (flat[:length] == waveform[row, :length]).all() and (flat[length:] == 0).all()
    with pytest.raises(EarwitnessError, match="views"):
        encoder(waveform, lengths, Masks(SpecAugmentConfig(), torch.tensor([1, 2])))


def masks_of(augmented: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    return augmented != clean


def test_spec_augment_masks_bands_within_its_limits() -> None:
    settings = SpecAugmentConfig(
        time_masks=1, time_width=0.2, frequency_masks=1, frequency_width=0.25
    )
    clips, frames, bands = 300, 50, 40
    logmel = torch.randn(clips, frames, bands)
    lengths = torch.full((clips,), frames)
    lengths[::2] = 30
    hidden = masks_of(spec_augment(logmel, lengths, settings, torch.arange(clips)), logmel)
    in_time = hidden.float().mean(2) > 0.6  # a whole frame, where a frequency mask is narrower
    in_frequency = torch.stack([hidden[row, : lengths[row]].all(0) for row in range(clips)])
    widths = in_time.sum(1)
    assert widths.max() <= 10 and (widths[::2] <= 6).all()
    assert set(range(7)) <= set(widths[1::2].tolist())  # every width up to the largest is drawn
    assert in_frequency.sum(1).max() <= 10
    for row in range(clips):
        assert not hidden[row, lengths[row] :].any()  # padding is left as it is
        for line in (in_time[row], in_frequency[row]):
            places = line.nonzero().flatten()
            if len(places):
                assert places[-1] - places[0] + 1 == len(places)  # one band
    starts = [int(row.nonzero()[0]) for row in in_time[1::2] if row.any()]
    assert min(starts) < 5 and max(starts) > 35  # anywhere in the clip


def test_spec_augment_fills_with_the_clips_mean_and_follows_the_seed_alone() -> None:
    settings = SpecAugmentConfig()
    logmel = torch.randn(4, 60, 32)
    lengths = torch.tensor([60, 60, 40, 60])
    seeds = torch.tensor([5, 6, 7, 5])
    augmented = spec_augment(logmel, lengths, settings, seeds)
    for row in range(4):
        hidden = masks_of(augmented[row], logmel[row])
        mean = logmel[row, : lengths[row]].mean()
        torch.testing.assert_close(augmented[row][hidden], mean.expand(int(hidden.sum())))
    one = spec_augment(logmel[2:3, :40], lengths[2:3], settings, seeds[2:3])
    torch.testing.assert_close(one[0], augmented[2, :40])  # whatever it is batched with
    first, last = (masks_of(augmented[row], logmel[row]) for row in (0, 3))
    assert (first == last).all()  # one seed, one mask
    assert (first != masks_of(augmented[1], logmel[1])).any()


def test_spec_augment_of_no_masks_changes_nothing() -> None:
    logmel = torch.randn(2, 20, 8)
    settings = SpecAugmentConfig(time_masks=0, frequency_masks=0)
    augmented = spec_augment(logmel, torch.tensor([20, 9]), settings, torch.tensor([1, 2]))
    assert (augmented == logmel).all()

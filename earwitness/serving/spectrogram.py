"""A sound's log-mel spectrogram as the page draws it."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray

from pipeline.audio import waveforms

RATE = 16_000  # Hz
WINDOW, HOP = 1024, 256  # samples; the hop of a long sound is longer
MELS = 64  # bands, from 0 Hz to half the rate
COLUMNS = 480  # at most
RANGE = 80.0  # dB below the loudest that are shown


def spectrogram(path: Path, longest: float) -> NDArray[np.uint8]:
    """(columns, MELS) levels of a sound file: 255 is its loudest, 0 is 80 dB below or silence.

    Columns are evenly spaced over the whole sound; those of a long one leave samples out.

    Raises:
        EarwitnessError: it cannot be decoded, or lasts more than ``longest`` seconds.
    """
    samples = waveforms.load(path, RATE, longest)
    samples = waveforms.fit(samples, max(WINDOW, len(samples)))
    hop = max(HOP, -(-(len(samples) - WINDOW) // (COLUMNS - 1)))
    pieces = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::hop]
    spectrum = np.fft.rfft(pieces * np.hanning(WINDOW + 1)[:-1].astype(np.float32))
    filters = librosa.filters.mel(sr=RATE, n_fft=WINDOW, n_mels=MELS)
    power = np.abs(spectrum) ** 2 @ filters.T
    decibels = 10 * np.log10(np.maximum(power, 1e-10) / max(1e-10, power.max()))
    silent = power.max() <= 1e-10
    levels = np.zeros_like(decibels) if silent else np.clip(1 + decibels / RANGE, 0, 1)
    return np.round(255 * levels).astype(np.uint8)

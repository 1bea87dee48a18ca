"""Kaldi's log-mel filter bank, the input of AST (Gong et al. 2021)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config.encoders import FbankEncoderConfig
from pipeline.encoders.base import SpectrogramEncoder
from pipeline.encoders.spectrogram import at_least
from pipeline.tensors import Padded

WINDOW_SECONDS = 0.025  # Kaldi
HOP_SECONDS = 0.01  # Kaldi
LOWEST_HZ = 20.0  # Kaldi
PREEMPHASIS = 0.97  # Kaldi
FLOOR = 1.192092955078125e-07  # lowest power before the log: float32's epsilon, Kaldi
HUB = None  # it has no weights


class FbankEncoder(SpectrogramEncoder):
    """``mels`` natural logs of power every 10 ms, before AST's normalisation.

    Frames are whole windows of 25 ms: the rest at a clip's end is dropped (Kaldi's ``snip_edges``);
    a clip shorter than a window is padded with silence to one. Frames past a clip's end are zero,
    as in AST's feature extractor.
    """

    window: Tensor  # (samples of a window,)
    filters: Tensor  # (n_fft // 2 + 1, M)

    def __init__(self, settings: FbankEncoderConfig) -> None:
        super().__init__()
        self.sample_rate, self.width = settings.sample_rate, settings.mels
        self.samples = int(WINDOW_SECONDS * settings.sample_rate)
        self.hop = int(HOP_SECONDS * settings.sample_rate)
        self.n_fft = 1 << (self.samples - 1).bit_length()
        self.frame_seconds = self.hop / settings.sample_rate
        window = torch.hann_window(self.samples, periodic=False)
        highest = float(settings.sample_rate // 2)
        filters = torch.from_numpy(
            kaldi_filters(settings.sample_rate, self.n_fft, settings.mels, LOWEST_HZ, highest)
        )
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def frontend(self, waveform: Tensor, lengths: Tensor) -> Padded:
        with torch.autocast(waveform.device.type, enabled=False):
            waveform, lengths = at_least(waveform.float(), lengths, self.samples)
            frames = waveform.unfold(1, self.samples, self.hop)  # (B, T, samples)
            frames = frames - frames.mean(2, keepdim=True)
            before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
            frames = (frames - PREEMPHASIS * before) * self.window
            spectrum = torch.fft.rfft(frames, self.n_fft)
            power = spectrum.real.square() + spectrum.imag.square()
            values = (power @ self.filters).clamp(min=FLOOR).log()
        count = (lengths - self.samples) // self.hop + 1
        return Padded(values * Padded(values, count).mask[..., None], count)

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        return Padded(logmel, lengths)


def kaldi_filters(
    sample_rate: int, n_fft: int, mels: int, fmin: float, fmax: float
) -> NDArray[np.float32]:
    """(n_fft // 2 + 1, M) filters: triangles of height 1 over mel, not over Hz.

    TensorFlow's, and so VGGish's, are the same.
    """

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1127.0 * np.log1p(hertz / 700.0)

    lowest, highest = mel(np.array([fmin, fmax]))
    edges = np.linspace(lowest, highest, mels + 2)
    bins = mel(np.arange(n_fft // 2 + 1) * sample_rate / n_fft)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def build(settings: FbankEncoderConfig, location: None) -> FbankEncoder:
    """The encoder; it has no weights."""
    return FbankEncoder(settings)

"""The log-mel front end of every spectrogram encoder, and SpecAugment's masks on it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.config.encoders import SpecAugmentConfig
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

FRONT_END = ("sample_rate", "n_fft", "hop", "mels", "fmin", "fmax")
FLOOR = 1e-10  # lowest power before the log: torchlibrosa, librosa and CLAP
FLOOR_DB = -100.0  # 10 log10 of it


def front_end(settings: Any) -> dict[str, Any]:
    """The settings of an encoder's log-mel."""
    return {name: getattr(settings, name) for name in FRONT_END}


class LogMel(nn.Module):
    """Log-mel spectrogram in dB, equal to torchlibrosa's (PANNs), CLAP's and librosa's.

    Periodic Hann window, power spectrum, frames centred at multiples of ``hop``. Each clip is
    padded by its reflection at both ends, so its frames do not depend on the batch. Frames past a
    clip's end are ``FLOOR_DB``. Always float32, under autocast too.
    """

    window: Tensor  # (win_length,)
    filters: Tensor  # (n_fft // 2 + 1, M)

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        hop: int,
        mels: int,
        fmin: float,
        fmax: float,
        scale: Literal["slaney", "htk"] = "slaney",
        win_length: int | None = None,
    ) -> None:
        """``win_length``: of the window, with zeros on both sides up to ``n_fft``; None: n_fft."""
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        filters = mel_filters(sample_rate, n_fft, mels, fmin, fmax, scale)
        self.register_buffer("window", torch.hann_window(win_length or n_fft), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.T.copy()), persistent=False)

    @property
    def minimum_samples(self) -> int:
        """The shortest clip that can be reflected."""
        return self.n_fft // 2 + 1

    def forward(self, waveform: Tensor, lengths: Tensor) -> Padded:
        """(B, samples), (B,) int64 → (B, T, M) float32 with ``length // hop + 1`` valid frames.

        Clips shorter than :attr:`minimum_samples` are padded to it with zeros.
        """
        power, frames = self.power(waveform, lengths)
        decibels = 10.0 * torch.log10(power.clamp(min=FLOOR))
        past = torch.arange(decibels.shape[1], device=decibels.device) >= frames[:, None]
        return Padded(decibels.masked_fill(past[..., None], FLOOR_DB), frames)

    def power(self, waveform: Tensor, lengths: Tensor) -> Padded:
        """The bands' power, (B, T, M), of the same frames; those past a clip's end are anything."""
        with torch.autocast(waveform.device.type, enabled=False):
            waveform, lengths = at_least(waveform.float(), lengths, self.minimum_samples)
            spectrum = torch.stft(
                reflected(waveform, lengths, self.n_fft // 2),
                self.n_fft,
                self.hop,
                len(self.window),
                window=self.window,
                center=False,
                return_complex=True,
            )
            power = (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2)  # (B, T, F)
            return Padded(power @ self.filters, lengths // self.hop + 1)


def mel_filters(
    sample_rate: int,
    n_fft: int,
    mels: int,
    fmin: float,
    fmax: float,
    scale: Literal["slaney", "htk"] = "slaney",
) -> NDArray[np.float32]:
    """(M, n_fft // 2 + 1) triangular mel filters.

    ``slaney`` is librosa's default (PANNs, CLAP without fusion); ``htk``, not normalised, is
    torchaudio's (CLAP with fusion).

    Raises:
        EarwitnessError: a band is above half the sample rate, or so narrow that it is empty.
    """
    import librosa  # heavy

    if fmax > sample_rate / 2:
        raise EarwitnessError(f"fmax {fmax:g} Hz is above half of sample_rate {sample_rate}")
    htk = scale == "htk"
    filters: NDArray[np.float32] = librosa.filters.mel(
        sr=sample_rate,
        n_fft=n_fft,
        n_mels=mels,
        fmin=fmin,
        fmax=fmax,
        htk=htk,
        norm=None if htk else "slaney",
    )
    return filters


def at_least(waveform: Tensor, lengths: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """(B, samples) and (B,): clips shorter than ``samples`` are padded with zeros."""
    inside = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]
    waveform = waveform * inside
    short = samples - waveform.shape[1]
    if short > 0:
        waveform = nn.functional.pad(waveform, (0, short))
    return waveform, lengths.clamp(min=samples)


def reflected(waveform: Tensor, lengths: Tensor, margin: int) -> Tensor:
    """(B, margin + samples + margin): each clip reflected at its two ends, then zeros.

    ``waveform`` is zero past each clip's length, and each length is above ``margin``.
    """
    padded = nn.functional.pad(waveform, (margin, margin))
    padded[:, :margin] = waveform[:, 1 : margin + 1].flip(1)
    past = torch.arange(margin, device=waveform.device)
    mirrored = torch.gather(waveform, 1, lengths[:, None] - 2 - past)
    return padded.scatter_(1, margin + lengths[:, None] + past, mirrored)


def spec_augment(
    logmel: Tensor,
    lengths: Tensor,
    settings: SpecAugmentConfig,
    seeds: Tensor,
    places: Tensor | None = None,
) -> Tensor:
    """Masks bands of time and of frequency (Park et al. 2019, without the time warp).

    A mask's width is uniform from 0 to its largest, its position uniform over the clip's valid
    frames or the bands. Masked values become the clip's mean, which is zero in Park et al.'s
    mean-normalised input. The masks depend on the seeds alone, on every device.

    Args:
        logmel: (B, T, M).
        lengths: (B,) int64, valid frames.
        seeds: (B,) int64, one a clip and view.
        places: (B, T) int64, the valid frame that each frame repeats, negative for none; None
            where frames past a clip's length are padding. A mask covers every repetition.

    Returns:
        (B, T, M), a new tensor.
    """
    frames, bands = logmel.shape[1:]
    masks = settings.time_masks + settings.frequency_masks
    draws = _uniform(seeds, 2 * masks).to(logmel.device)  # (B, 2 × masks)
    width, place = draws[:, :masks], draws[:, masks:]
    split = settings.time_masks
    spans = lengths[:, None].to(draws.dtype)
    in_time = _bands(width[:, :split], place[:, :split], spans, settings.time_width, frames)
    spans = torch.full_like(spans, bands)
    in_frequency = _bands(
        width[:, split:], place[:, split:], spans, settings.frequency_width, bands
    )
    valid = torch.arange(frames, device=logmel.device) < lengths[:, None]
    total = (logmel * valid[..., None]).sum((1, 2))
    mean = (total / (lengths * bands))[:, None, None]
    if places is not None:
        valid = places >= 0
        in_time = in_time.gather(1, places.clamp(min=0))
    hidden = (in_time[:, :, None] | in_frequency[:, None, :]) & valid[..., None]
    return torch.where(hidden, mean, logmel)


def _bands(width: Tensor, place: Tensor, span: Tensor, largest: float, size: int) -> Tensor:
    """(B, size) bool, true inside any of n masks; width and place are (B, n) in [0, 1)."""
    wide = torch.floor(width * (torch.floor(span * largest) + 1))  # 0 … largest, whole frames
    start = torch.floor(place * (span - wide + 1))
    at = torch.arange(size, device=width.device)
    inside = (at >= start[..., None]) & (at < (start + wide)[..., None])  # (B, n, size)
    return inside.any(dim=1)


def _uniform(seeds: Tensor, count: int) -> Tensor:
    """(B, count) float64 in [0, 1) by SplitMix64, a counter-based generator (Steele et al. 2014).

    One generator a clip would need a Python loop, and would differ between devices.
    """
    seed = seeds.detach().cpu().numpy().astype(np.uint64)[:, None]
    with np.errstate(over="ignore"):
        state = _mix(seed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(
            1, count + 1, dtype=np.uint64
        )
        bits = _mix(state)
    return torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))

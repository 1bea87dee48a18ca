"""Kinds of numbers that say how sound is read, and that a spectrogram of them can be."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

SampleRate = Annotated[int, Field(ge=1000, le=384_000)]  # Hz
Fft = Annotated[int, Field(ge=16, le=65_536)]  # samples
Hop = Annotated[int, Field(ge=1, le=65_536)]  # samples
Mels = Annotated[int, Field(ge=1, le=1024)]  # bands
Hertz = Annotated[float, Field(ge=0, le=192_000)]
Seconds = Annotated[float, Field(ge=0.01, le=1e6)]


def check_spectrogram(settings: Any, sample_rate: int | None = None) -> None:
    """Refuses settings that leave out sound, or that make bands without any.

    Args:
        settings: with n_fft, hop, mels, fmin and fmax.
        sample_rate: in Hz; None where it is another section's.

    Raises:
        ValueError: so they do.
    """
    if settings.fmin >= settings.fmax:
        raise ValueError(f"fmin {settings.fmin:g} is not below fmax {settings.fmax:g}")
    if sample_rate is not None and settings.fmax > sample_rate / 2:
        raise ValueError(f"fmax {settings.fmax:g} Hz is above half of sample_rate {sample_rate}")
    if settings.hop > settings.n_fft:
        raise ValueError(
            f"hop {settings.hop} is above n_fft {settings.n_fft}: samples between would be lost"
        )
    if settings.mels > (bins := settings.n_fft // 2 + 1):
        raise ValueError(f"mels {settings.mels} is more than the {bins} bins of n_fft")

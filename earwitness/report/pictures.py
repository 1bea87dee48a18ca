"""A recording's spectrogram as a small grey picture, which the page colours."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray

BANDS = 64
COLUMNS = 400  # at most
WINDOW, HOP = 1024, 256
RANGE = 70.0  # dB below the loudest


def spectrogram(samples: NDArray[np.float32], rate: int) -> bytes:
    """(samples,) at ``rate`` Hz as WebP: time to the right, mel frequency up to half of ``rate``.

    Black is 70 dB below the loudest, or less; white is the loudest.
    """
    from PIL import Image

    level = _decibels(samples, rate)
    grey = np.clip(255 * (1 + (level - level.max()) / RANGE), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey[::-1]).save(stream, "WEBP", quality=60, method=4)
    return stream.getvalue()


def _decibels(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """(bands, columns), low bands first."""
    padded = np.pad(samples, (WINDOW // 2, WINDOW // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    filters, window = _mel_filters(rate), np.hanning(WINDOW).astype(np.float32)
    wide = -(-len(frames) // COLUMNS)  # frames a column
    columns = []
    for at in range(0, len(frames), wide * 64):  # a few at a time: an hour fits, too
        power = np.abs(np.fft.rfft(frames[at : at + wide * 64] * window)) ** 2 @ filters.T
        columns += [power[n : n + wide].mean(0) for n in range(0, len(power), wide)]
    return (10 * np.log10(np.stack(columns, 1) + 1e-10)).astype(np.float32)


@cache
def _mel_filters(rate: int) -> NDArray[np.float32]:
    """(bands, bins): triangles that are equally wide in mel (O'Shaughnessy's formula)."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW, 1 / rate)
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.clip(np.minimum(rise, fall), 0, None)
    nearest = np.abs(bins - edges[1:-1, None]).argmin(1)  # narrow bands may lie between two bins
    empty = filters.sum(1) == 0
    filters[empty, nearest[empty]] = 1
    return filters.astype(np.float32)

"""Excerpts of sounds as the features that a model reads: the sound is encoded once, and cut."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from earwitness.sound_features import Entries, Feature, SoundFeatures
from pipeline.audio.waveforms import Waveform

Spans = NDArray[np.float64]  # (n, 2) start and end of excerpts, in seconds
SLIP = 1e-6  # seconds


def excerpt_features(
    features: SoundFeatures,
    sounds: Sequence[Waveform],
    spans: Sequence[Spans],
    wanted: Sequence[Feature],
) -> dict[Feature, Entries]:
    """Each feature of all excerpts, sound by sound.

    Frames are cut from those of the whole sound, as many of them as lie in an excerpt, at least
    one. Where a sound has fewer frames than its shortest excerpt needs, as of an encoder that makes
    one embedding a window, the encoder reads the excerpts themselves.
    """
    found: dict[Feature, Entries] = {}
    for feature, made in features.made(sounds, wanted, math.inf).items():
        pieces: list[NDArray[np.float16] | None] = []
        missing: list[Waveform] = []
        for frames, sound, own in zip(made, sounds, spans, strict=True):
            for piece, excerpt in _cut(frames, sound, own):
                pieces.append(piece)
                missing += [] if excerpt is None else [excerpt]
        read = iter(features.made(missing, [feature], math.inf)[feature] if missing else [])
        found[feature] = [next(read) if piece is None else piece for piece in pieces]
    return found


def _cut(
    frames: NDArray[np.float16], sound: Waveform, spans: Spans
) -> list[tuple[NDArray[np.float16] | None, Waveform | None]]:
    """Each excerpt's frames, or its sound where it has to be encoded itself."""
    seconds = len(sound.samples) / sound.sample_rate
    shortest = float((spans[:, 1] - spans[:, 0]).min(initial=math.inf))
    is_fine = len(frames) * shortest >= seconds - SLIP
    found: list[tuple[NDArray[np.float16] | None, Waveform | None]] = []
    for start, end in spans.tolist():
        if is_fine or end - start >= seconds - SLIP:
            first, stop = _bounds(start, end, seconds, len(frames))
            found.append((frames[first:stop], None))
        else:
            first, stop = _bounds(start, end, seconds, len(sound.samples))
            own = Waveform(sound.name, sound.samples[first:stop], sound.sample_rate)
            found.append((None, own))
    return found


def _bounds(start: float, end: float, seconds: float, count: int) -> tuple[int, int]:
    """Which of ``count`` values, ``seconds`` long together, lie in an excerpt; at least one."""
    first = min(round(start / seconds * count), count - 1)
    return first, max(first + 1, round(end / seconds * count))

"""The backgrounds of synthesised clips, which last as long as the clip.

Every background takes ``(rng, n, rate)`` and returns (n,) samples of any scale.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from pipeline.corpora.synthesis.signals import (
    Signal,
    burst,
    decay,
    highpass,
    lowpass,
    noise,
    resonance,
    scatter,
    sine,
    wander,
)


def rain(rng: Generator, n: int, rate: int) -> Signal:
    m = round(0.02 * rate)
    drop = highpass(noise(rng, m), 2500, rate) * decay(m, rate, 0.003, attack=0.0005)
    return 0.5 * highpass(noise(rng, n), 2000, rate) + 2.5 * burst(
        scatter(rng, n, rate, 45.0), drop
    )


def wind(rng: Generator, n: int, rate: int) -> Signal:
    gusts = wander(rng, n, rate, 0.9, 0.25, 1.0)
    blow = lowpass(noise(rng, n), 350, rate)
    return (blow + 0.8 * resonance(noise(rng, n), 480, 60, rate)) * gusts


def traffic(rng: Generator, n: int, rate: int) -> Signal:
    rumble = 4 * lowpass(noise(rng, n), 90, rate)
    tyres = resonance(noise(rng, n), 900, 900, rate) * wander(rng, n, rate, 0.7, 0.0, 1.0) ** 2
    return rumble + 1.5 * tyres


def hum(rng: Generator, n: int, rate: int) -> Signal:
    mains = 100 * rng.uniform(0.98, 1.22)
    harmonics = (sine(k * mains, n, rate) / k**0.7 for k in (1, 2, 3, 5))
    return sum(harmonics, 0.02 * lowpass(noise(rng, n), 800, rate))


def static(rng: Generator, n: int, rate: int) -> Signal:
    flutter = 0.35 + 0.65 * (wander(rng, n, rate, 14.0, 0.0, 1.0) > 0.45)
    hiss = resonance(noise(rng, n), 1900, 1600, rate)
    return hiss * lowpass(flutter, 60, rate, poles=1)


def waves(rng: Generator, n: int, rate: int) -> Signal:
    period = rng.uniform(2.4, 3.4)
    place = (np.arange(n) / rate / period + rng.random()) % 1
    swell = np.where(place < 0.35, place / 0.35, np.exp(-3.2 * (place - 0.35)))
    return (lowpass(noise(rng, n), 900, rate, poles=1) + 0.12 * noise(rng, n)) * (0.08 + swell**2)


BACKGROUNDS: dict[str, Callable[[Generator, int, int], Signal]] = {
    "rain": rain,
    "wind": wind,
    "traffic": traffic,
    "hum": hum,
    "static": static,
    "waves": waves,
}

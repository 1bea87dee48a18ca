"""Oscillators, noises, filters and envelopes, of which the synthesised sounds are made.

Everything is float64: processors and numpy builds differ in the last bit of a sine or an
exponential, and at this precision that bit practically never changes a 16-bit sample, so a corpus
has the same bytes on every machine. ``n`` is a number of samples, ``rate`` is in Hz.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import lfilter

Signal = NDArray[np.floating]  # (n,) float64


def cycles(hertz: float | Signal, n: int, rate: int) -> Signal:
    """Phase in cycles, modulo one, of an oscillator whose frequency may change; (n,)."""
    top = 0.45 * rate  # a little below the highest frequency of this rate
    if isinstance(hertz, np.ndarray):
        turns: Signal = np.cumsum(np.minimum(hertz, top) / rate)
    else:
        turns = np.arange(n) * (min(hertz, top) / rate)
    return turns - np.floor(turns)


def sine(hertz: float | Signal, n: int, rate: int) -> Signal:
    return np.sin(2 * np.pi * cycles(hertz, n, rate))


def saw(hertz: float | Signal, n: int, rate: int) -> Signal:
    return 2 * cycles(hertz, n, rate) - 1


def square(hertz: float | Signal, n: int, rate: int) -> Signal:
    return np.where(cycles(hertz, n, rate) < 0.5, 1.0, -1.0)


def glide(start: float, stop: float, n: int) -> Signal:
    """A frequency that moves from one to another in equal ratios."""
    return np.geomspace(start, stop, n)


def wander(rng: Generator, n: int, rate: int, hertz: float, low: float, high: float) -> Signal:
    """A slow random curve between ``low`` and ``high`` with ``hertz`` turns a second."""
    knots = max(2, round(n / rate * hertz) + 2)
    return np.interp(np.linspace(0, knots - 1, n), np.arange(knots), rng.uniform(low, high, knots))


def resonance(signal: Signal, hertz: float, width: float, rate: int) -> Signal:
    """A bandpass of two poles at ``hertz``, ``width`` Hz wide, with a gain of 1 at its peak."""
    angle = 2 * np.pi * min(hertz, 0.45 * rate) / rate
    radius = np.exp(-np.pi * width / rate)
    gain = (1 - radius**2) / 2
    poles = [1.0, -2 * radius * np.cos(angle), radius**2]
    return lfilter([gain, 0.0, -gain], poles, signal)


def lowpass(signal: Signal, hertz: float, rate: int, poles: int = 2) -> Signal:
    keep = np.exp(-2 * np.pi * min(hertz, 0.45 * rate) / rate)
    numerator, denominator = np.array([1 - keep]), np.array([1.0, -keep])
    for _ in range(poles):
        signal = lfilter(numerator, denominator, signal)
    return signal


def highpass(signal: Signal, hertz: float, rate: int, poles: int = 2) -> Signal:
    for _ in range(poles):
        signal = signal - lowpass(signal, hertz, rate, poles=1)
    return signal


def noise(rng: Generator, n: int) -> Signal:
    """White noise of variance 1; uniform, which sounds like Gaussian and is 3 × as fast."""
    return (rng.random(n) - 0.5) * 12**0.5


def decay(n: int, rate: int, seconds: float, attack: float = 0.002) -> Signal:
    """A short rise, then a fall to 1/e every ``seconds``."""
    time = np.arange(n) / rate
    return np.exp(-time / seconds) * np.minimum(1.0, time / attack)


def arch(n: int, sharpness: float = 1.0) -> Signal:
    """From 0 to 1 and back, along half a sine."""
    return np.sin(np.pi * (np.arange(n) + 0.5) / n) ** sharpness


def edges(n: int, rate: int, seconds: float = 0.02) -> Signal:
    """One, with a straight rise and fall of ``seconds`` at the ends."""
    ramp = np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) / max(1.0, seconds * rate)
    return np.minimum(1.0, ramp)


def gate(n: int, rate: int, hertz: float, duty: float, edge: float = 0.004) -> Signal:
    """On for ``duty`` of every period of ``hertz``, with soft edges of ``edge`` seconds."""
    place = cycles(hertz, n, rate) / hertz  # seconds since the period began
    on = duty / hertz
    return np.clip(np.minimum(place, on - place) / edge, 0.0, 1.0)


def scatter(rng: Generator, n: int, rate: int, a_second: float, regularity: float = 0.0) -> Signal:
    """Single samples of random height at random times; at equal times for ``regularity`` 1."""
    count = max(1, round(a_second * n / rate))
    even = (np.arange(count) + 0.3) / count
    at = regularity * even + (1 - regularity) * rng.random(count)
    signal = np.zeros(n)
    np.add.at(signal, np.minimum((at * n).astype(np.int64), n - 1), rng.uniform(0.5, 1.0, count))
    return signal


def burst(signal: Signal, shape: Signal) -> Signal:
    """Every single sample of ``signal`` replaced by ``shape``: (n,) with (m,) → (n,)."""
    result = np.zeros(len(signal) + len(shape))
    for at in np.flatnonzero(signal):
        result[at : at + len(shape)] += signal[at] * shape
    return result[: len(signal)]


def loudest(signal: Signal, rate: int) -> float:
    """The root mean square of the loudest twentieth of a second."""
    block = max(1, rate // 20)
    padded = np.pad(signal, (0, -len(signal) % block)).reshape(-1, block)
    return float(np.sqrt(np.max(np.mean(padded**2, axis=1))))

"""Events of the synthesised corpus that are counted: each function makes one, such as one bark.

Every one takes ``(rng, n, rate, hertz)`` and returns (n,) samples of any scale.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from pipeline.corpora.synthesis.signals import (
    Signal,
    arch,
    decay,
    edges,
    glide,
    highpass,
    lowpass,
    noise,
    resonance,
    saw,
    sine,
    square,
)

# of a bell, from its hum note up: ratio to its pitch, amplitude, seconds to fall to 1/e (ours)
BELL_PARTIALS = (
    (0.5, 0.4, 0.9),
    (1.0, 1.0, 0.6),
    (1.19, 0.5, 0.5),
    (2.0, 0.6, 0.35),
    (2.74, 0.4, 0.25),
)


def bark(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    voice = saw(glide(1.4 * hertz, 0.6 * hertz, n), n, rate) + 0.8 * noise(rng, n)
    mouth = resonance(voice, 2.2 * hertz, 250, rate) + resonance(voice, 4.5 * hertz, 600, rate)
    return mouth * decay(n, rate, 0.08, attack=0.015)


def beep(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    tones = sine(hertz, n, rate) + 0.5 * sine(3 * hertz, n, rate) + 0.25 * sine(5 * hertz, n, rate)
    return tones * edges(n, rate, 0.008)


def bell(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    ring = np.zeros(n)
    for ratio, amplitude, seconds in BELL_PARTIALS:
        ring += amplitude * sine(ratio * hertz, n, rate) * decay(n, rate, seconds)
    return ring


def knock(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    body = (
        sine(hertz, n, rate) + 0.7 * sine(2.3 * hertz, n, rate) + 0.4 * sine(4.1 * hertz, n, rate)
    )
    return (body + 0.5 * lowpass(noise(rng, n), 1500, rate)) * decay(n, rate, 0.022, attack=0.001)


def drum(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    skin = sine(glide(1.8 * hertz, hertz, n), n, rate) * decay(n, rate, 0.12)
    snare = resonance(noise(rng, n), 18 * hertz, 2500, rate) * decay(n, rate, 0.06)
    return skin + 0.6 * snare


def drip(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    plip = sine(glide(hertz, 3.5 * hertz, n), n, rate) * decay(n, rate, 0.05, attack=0.01)
    at = n // 3  # when the drop that jumped up falls again
    plop = sine(glide(1.4 * hertz, 5 * hertz, n - at), n - at, rate) * decay(n - at, rate, 0.04)
    return plip + np.pad(0.8 * plop, (at, 0))


def laser(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    return square(glide(hertz, 0.06 * hertz, n), n, rate) * edges(n, rate)


def gunshot(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    crack = noise(rng, n) * decay(n, rate, 0.025, attack=0.0005)
    echo = lowpass(noise(rng, n), 700, rate) * decay(n, rate, 0.14)
    return crack + 1.5 * echo


def glass(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    shards = np.zeros(n)
    for pitch, start in zip(rng.uniform(1800, 6500, 14), rng.beta(1, 3, 14) * 0.6 * n, strict=True):
        at = int(start)
        shards[at:] += sine(pitch, n - at, rate) * decay(n - at, rate, 0.05)
    return shards + highpass(noise(rng, n), 3000, rate) * decay(n, rate, 0.04)


def owl(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    bend = hertz * (1 + 0.12 * arch(n))
    hoot = sine(bend, n, rate) + 0.4 * sine(2 * bend, n, rate) + 0.2 * sine(3 * bend, n, rate)
    flutter = 1 + 0.5 * sine(16.0, n, rate)
    return (hoot * flutter + 0.1 * lowpass(noise(rng, n), 900, rate)) * arch(n, 0.7)


def cat(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    rise = hertz * (0.85 + 0.35 * arch(n, 1.5))
    voice = saw(rise, n, rate) + 0.05 * noise(rng, n)
    opening = arch(n)
    closed = resonance(voice, 1.4 * hertz, 200, rate)  # a small cat has a short throat
    opened = resonance(voice, 3.6 * hertz, 350, rate)
    return (closed * (1 - opening) + 1.2 * (closed + opened) * opening) * arch(n, 0.6)


def guitar(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    """A plucked string (Karplus and Strong, 1983): noise in a loop with a lowpass."""
    period = max(2, round(rate / hertz))
    loop = lowpass(rng.uniform(-1, 1, period), 5000, rate, poles=1)
    rounds = []
    for _ in range(-(-n // period)):
        rounds.append(loop)
        loop = 0.499 * (loop + np.roll(loop, 1))
    return np.concatenate(rounds)[:n] * edges(n, rate, 0.005)


def horn(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    reeds = saw(hertz, n, rate) + saw(1.26 * hertz, n, rate)
    brass = resonance(reeds, 3.2 * hertz, 600, rate) + 0.6 * resonance(reeds, 7 * hertz, 900, rate)
    return (brass + 0.3 * lowpass(reeds, 2500, rate)) * edges(n, rate)


def whistle(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    """A whistle with a ball in it: a trill, and noise of breath around the tone."""
    trill = sine(26.0, n, rate)
    breath = 0.5 * resonance(noise(rng, n), 1.6 * hertz, 900, rate)
    return (sine(hertz * (1 + 0.09 * trill), n, rate) * (1 + 0.4 * trill) + breath) * edges(n, rate)

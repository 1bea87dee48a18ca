"""Events of the synthesised corpus that last, such as a siren: each fills all ``n`` samples.

Every one takes ``(rng, n, rate, hertz)`` and returns (n,) samples of any scale.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from pipeline.corpora.synthesis.signals import (
    Signal,
    arch,
    burst,
    cycles,
    decay,
    edges,
    gate,
    highpass,
    lowpass,
    noise,
    resonance,
    saw,
    scatter,
    sine,
    square,
    wander,
)


def siren(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    turn = sine(rng.uniform(0.8, 1.2), n, rate)
    pitch = hertz * 2.0 ** (0.6 * turn)
    return lowpass(square(pitch, n, rate), 2500, rate) * edges(n, rate, 0.08)


def bird(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    tempo = rng.uniform(5.0, 8.0)
    place = cycles(tempo, n, rate)
    pitch = hertz * (1.25 - 0.5 * np.abs(place - 0.3))
    phrase = gate(n, rate, rng.uniform(1.0, 1.6), 0.7)
    return sine(pitch, n, rate) * gate(n, rate, tempo, 0.55) * phrase


def footsteps(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    steps = scatter(rng, n, rate, rng.uniform(1.8, 2.4), regularity=0.96)
    m = round(0.14 * rate)
    heel = sine(90.0, m, rate) * decay(m, rate, 0.02)
    sole = 0.5 * highpass(lowpass(noise(rng, m), 2500, rate), 300, rate) * arch(m, 2.0)
    return burst(steps, heel + sole)


def engine(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    speed = hertz * wander(rng, n, rate, 1.5, 0.85, 1.25)
    fire = cycles(speed, n, rate)
    pulses = np.exp(-9 * fire) + 0.4 * np.exp(-9 * ((fire + 0.45) % 1))
    grit = 0.25 * lowpass(noise(rng, n), 900, rate) * (0.4 + pulses)
    return highpass(lowpass(pulses, 900, rate) + grit, 25, rate, poles=1) * edges(n, rate, 0.1)


def phone(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    bells = sine(hertz, n, rate) + sine(1.25 * hertz, n, rate) + 0.4 * sine(2.6 * hertz, n, rate)
    return bells * gate(n, rate, 20.0, 0.6) * gate(n, rate, 0.9, 0.62, edge=0.02)


def clock(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    m = round(0.04 * rate)
    tick = (sine(2600.0, m, rate) + 0.5 * noise(rng, m)) * decay(m, rate, 0.011, attack=0.001)
    tock = (sine(1900.0, m, rate) + 0.5 * noise(rng, m)) * decay(m, rate, 0.014, attack=0.001)
    beats = scatter(rng, n, rate, rng.uniform(3.6, 4.4), regularity=1.0)
    at = np.flatnonzero(beats)
    ticks, tocks = np.zeros((2, n))
    ticks[at[::2]] = tocks[at[1::2]] = 0.8
    return burst(ticks, tick) + burst(tocks, tock)


def typing(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    keys = scatter(rng, n, rate, rng.uniform(8.0, 12.0), regularity=0.5)
    m = round(0.05 * rate)
    press = highpass(noise(rng, m), 1200, rate) * decay(m, rate, 0.004, attack=0.0005)
    return burst(keys, press + 0.5 * sine(420.0, m, rate) * decay(m, rate, 0.012))


def speech(rng: Generator, n: int, rate: int, hertz: float, tract: float) -> Signal:
    """A voice without words: a sawtooth through the formants of one vowel after another."""
    pitch = hertz * wander(rng, n, rate, 3.0, 0.85, 1.2)
    breath = 0.04 * noise(rng, n)
    source = lowpass(saw(pitch, n, rate), 1800, rate, poles=1) + breath
    vowels = ((730, 1090), (300, 2200), (520, 1000))  # a, i, o: Peterson and Barney (1952), rounded
    tempo = rng.uniform(3.6, 4.6)
    place = np.cumsum(wander(rng, n, rate, tempo, 0.8, 1.2) * tempo / rate)
    which = rng.integers(0, len(vowels), int(place[-1]) + 2)
    syllable = place.astype(np.int64)
    voice = np.zeros(n)
    for index, (first, second) in enumerate(vowels):
        on = lowpass((which[syllable] == index).astype(np.float64), 12, rate, poles=1)
        spoken = resonance(source, first * tract, 90, rate)
        voice += on * (spoken + 0.7 * resonance(source, second * tract, 140, rate))
    hiss = highpass(noise(rng, n), 3500, rate, poles=1) * (place % 1 < 0.12)
    return (voice * np.sin(np.pi * (place % 1)) ** 0.6 + 0.03 * hiss) * edges(n, rate, 0.03)


def man(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    return speech(rng, n, rate, hertz, 0.95)


def woman(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    return speech(rng, n, rate, hertz, 1.18)


def baby(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    sob = cycles(rng.uniform(0.9, 1.3), n, rate)
    shape = np.sin(np.pi * np.minimum(1.0, sob / 0.75)) ** 0.6
    pitch = hertz * (0.85 + 0.4 * shape) * (1 + 0.015 * sine(7.0, n, rate))
    voice = saw(pitch, n, rate) + 0.08 * noise(rng, n)
    mouth = resonance(voice, 1150, 200, rate) + resonance(voice, 3100, 400, rate)
    return mouth * shape * edges(n, rate, 0.03)


def cricket(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    trill = gate(n, rate, rng.uniform(28.0, 34.0), 0.5, edge=0.003)
    return sine(hertz, n, rate) * trill * gate(n, rate, rng.uniform(2.2, 3.0), 0.6, edge=0.02)


def drill(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    motor = square(hertz * (1 + 0.01 * sine(6.0, n, rate)), n, rate)
    whine = resonance(motor, 13 * hertz, 900, rate) + 0.25 * highpass(motor, 4 * hertz, rate)
    bite = highpass(noise(rng, n), 2000, rate) * (0.6 + 0.4 * motor)
    spin = np.minimum(1.0, np.arange(n) / (0.15 * rate))
    return (whine + 0.3 * bite) * spin * edges(n, rate, 0.03)


def applause(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    claps = scatter(rng, n, rate, 60.0)
    m = round(0.03 * rate)
    clap = resonance(noise(rng, m) * decay(m, rate, 0.006, attack=0.0005), 1300, 900, rate)
    return burst(claps, clap) * edges(n, rate, 0.15)


def thunder(rng: Generator, n: int, rate: int, hertz: float) -> Signal:
    rumble = lowpass(noise(rng, n), 130, rate, poles=3)
    roll = wander(rng, n, rate, 4.0, 0.2, 1.0) * np.exp(-1.2 * np.arange(n) / n)
    crack = 0.05 * lowpass(noise(rng, n), 1200, rate) * decay(n, rate, 0.08)
    return (rumble * roll + crack) * edges(n, rate, 0.03)

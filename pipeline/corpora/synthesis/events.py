"""The kinds of event in the synthesised corpus, each a function from a pitch to samples.

Every function takes ``(rng, n, rate, hertz)`` and returns (n,) samples of any scale. Counted
events, such as a bark, are made one at a time; the others, such as a siren, last for all ``n``
samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    glide,
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

Synthesiser = Callable[[Generator, int, int, float], Signal]


@dataclass(frozen=True)
class Event:
    """A kind of sound.

    ``hertz``: its lowest and its highest pitch. ``unit``: seconds of one, where it is counted; 0
    where it lasts. ``pitched``: whether a listener hears the pitch as high or low, so that captions
    may say so.
    """

    make: Synthesiser
    hertz: tuple[float, float]
    unit: float = 0.0
    pitched: bool = True


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


EVENTS: dict[str, Event] = {
    "bark": Event(bark, (220, 620), unit=0.24),
    "beep": Event(beep, (420, 1500), unit=0.3),
    "bell": Event(bell, (320, 1500), unit=0.9),
    "knock": Event(knock, (170, 210), unit=0.14, pitched=False),
    "drum": Event(drum, (60, 220), unit=0.35),
    "drip": Event(drip, (550, 900), unit=0.28, pitched=False),
    "laser": Event(laser, (3000, 5000), unit=0.3, pitched=False),
    "gunshot": Event(gunshot, (100, 100), unit=0.5, pitched=False),
    "glass": Event(glass, (100, 100), unit=0.7, pitched=False),
    "owl": Event(owl, (300, 420), unit=0.6, pitched=False),
    "cat": Event(cat, (420, 950), unit=0.7),
    "guitar": Event(guitar, (95, 480), unit=0.7),
    "horn": Event(horn, (200, 560), unit=0.45),
    "whistle": Event(whistle, (800, 2400), unit=0.5),
    "siren": Event(siren, (450, 1300)),
    "bird": Event(bird, (2300, 5000)),
    "footsteps": Event(footsteps, (100, 100), pitched=False),
    "engine": Event(engine, (32, 110)),
    "phone": Event(phone, (900, 1200), pitched=False),
    "clock": Event(clock, (100, 100), pitched=False),
    "typing": Event(typing, (100, 100), pitched=False),
    "man": Event(man, (95, 130), pitched=False),
    "woman": Event(woman, (200, 255), pitched=False),
    "baby": Event(baby, (380, 520), pitched=False),
    "cricket": Event(cricket, (4200, 5200), pitched=False),
    "drill": Event(drill, (110, 340)),
    "applause": Event(applause, (100, 100), pitched=False),
    "thunder": Event(thunder, (100, 100), pitched=False),
}

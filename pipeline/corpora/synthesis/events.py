"""The kinds of event in the synthesised corpus, each a function from a pitch to samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numpy.random import Generator

from pipeline.corpora.synthesis import counted_events as counted
from pipeline.corpora.synthesis import lasting_events as lasting
from pipeline.corpora.synthesis.signals import Signal

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


EVENTS: dict[str, Event] = {
    "bark": Event(counted.bark, (220, 620), unit=0.24),
    "beep": Event(counted.beep, (420, 1500), unit=0.3),
    "bell": Event(counted.bell, (320, 1500), unit=0.9),
    "knock": Event(counted.knock, (170, 210), unit=0.14, pitched=False),
    "drum": Event(counted.drum, (60, 220), unit=0.35),
    "drip": Event(counted.drip, (550, 900), unit=0.28, pitched=False),
    "laser": Event(counted.laser, (3000, 5000), unit=0.3, pitched=False),
    "gunshot": Event(counted.gunshot, (100, 100), unit=0.5, pitched=False),
    "glass": Event(counted.glass, (100, 100), unit=0.7, pitched=False),
    "owl": Event(counted.owl, (300, 420), unit=0.6, pitched=False),
    "cat": Event(counted.cat, (420, 950), unit=0.7),
    "guitar": Event(counted.guitar, (95, 480), unit=0.7),
    "horn": Event(counted.horn, (200, 560), unit=0.45),
    "whistle": Event(counted.whistle, (800, 2400), unit=0.5),
    "siren": Event(lasting.siren, (450, 1300)),
    "bird": Event(lasting.bird, (2300, 5000)),
    "footsteps": Event(lasting.footsteps, (100, 100), pitched=False),
    "engine": Event(lasting.engine, (32, 110)),
    "phone": Event(lasting.phone, (900, 1200), pitched=False),
    "clock": Event(lasting.clock, (100, 100), pitched=False),
    "typing": Event(lasting.typing, (100, 100), pitched=False),
    "man": Event(lasting.man, (95, 130), pitched=False),
    "woman": Event(lasting.woman, (200, 255), pitched=False),
    "baby": Event(lasting.baby, (380, 520), pitched=False),
    "cricket": Event(lasting.cricket, (4200, 5200), pitched=False),
    "drill": Event(lasting.drill, (110, 340)),
    "applause": Event(lasting.applause, (100, 100), pitched=False),
    "thunder": Event(lasting.thunder, (100, 100), pitched=False),
}

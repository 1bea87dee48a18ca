"""Captions of a synthesised scene, as different people would write them.

Every caption names all events in their order. Whether it also says how often, how loud, how high
and over which background is random, as are its words and its form: *A dog barks twice before a
siren wails.*, *A dog barking followed by a siren wailing with rain falling in the
background.* What a caption says is always true of its scene.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeVar

from numpy.random import Generator

from pipeline.corpora.synthesis.scenes import Level, Scene, Sounding
from pipeline.corpora.synthesis.words import (
    BACKGROUND_WORDS,
    COUNT_ADJECTIVES,
    COUNT_ADVERBS,
    EVENT_WORDS,
    LOUD_ADJECTIVES,
    LOUD_ADVERBS,
    MANY_ADJECTIVES,
    MANY_ADVERBS,
    EventWords,
    Wording,
)

T = TypeVar("T")
Form = Literal["verb", "gerund"]  # "a dog barks" or "a dog barking"

USUAL = 0.55  # how often the first of several wordings or templates is chosen
SAYS_PITCH = 0.7  # how often a caption says what it could say
SAYS_LOUDNESS = 0.6
SAYS_ONCE = 0.3
SAYS_COUNT = 0.8
SAYS_BACKGROUND = 0.6
SAYS_STRENGTH = 0.5
AS_NOUN = 0.4  # "followed by two knocks" rather than "by someone knocking twice"
IN_GERUNDS = 0.35  # captions without a finite verb, as AudioCaps has many
TRIES = 12  # to find a caption that this clip does not have yet


def captions(rng: Generator, scene: Scene, count: int) -> tuple[str, ...]:
    """``count`` sentences about one scene, all different where the scene allows it."""
    written: list[str] = []
    for _ in range(count):
        for _ in range(TRIES):
            sentence = caption(rng, scene)
            if sentence not in written:
                break
        written.append(sentence)
    return tuple(written)


def caption(rng: Generator, scene: Scene) -> str:
    """One sentence that says everything that happens, in order."""
    form: Form = "gerund" if rng.random() < IN_GERUNDS else "verb"
    text = _sequence(rng, scene.groups, form)
    if scene.background and rng.random() < SAYS_BACKGROUND:
        text = _over(rng, text, scene, form)
    text = re.sub(r"\b(a|A) (?=[aeiou])", r"\1n ", text)
    return f"{text[0].upper()}{text[1:]}."


def _sequence(rng: Generator, groups: Sequence[tuple[Sounding, ...]], form: Form) -> str:
    """The groups, in the order of time."""
    if len(groups) == 1:
        return _group(rng, groups[0], form)
    if len(groups) == 2 and form == "verb" and all(len(group) == 1 for group in groups):
        return _two(rng, groups[0][0], groups[1][0])
    if form == "gerund":
        first, *rest = [
            _group(rng, group, form, noun=index > 0) for index, group in enumerate(groups)
        ]
        return f"{first} followed by {' and then '.join(rest)}"
    *before, last = [_group(rng, group, form) for group in groups]
    link = _usual(rng, ("then", "finally")) if len(before) > 1 else "then"
    return f"{', '.join(before)}, and {link} {last}"


def _two(rng: Generator, first: Sounding, second: Sounding) -> str:
    """One event, then another, in a finite sentence."""
    one = _event(rng, first, "verb")
    template = int(rng.integers(5))
    if template == 0:
        return f"{one} followed by {_event(rng, second, 'gerund', noun=True)}"
    two = _event(rng, second, "verb")
    if template == 1:
        return f"{one} before {two}"
    if template == 2:
        return f"{two} after {one}"
    return f"{one} and then {two}" if template == 3 else f"{one}, then {two}"


def _group(rng: Generator, group: tuple[Sounding, ...], form: Form, noun: bool = False) -> str:
    """Events at the same time; either may be named first."""
    if len(group) == 1:
        return _event(rng, group[0], form, noun)
    one, two = group if rng.random() < 0.5 else group[::-1]
    if form == "gerund":
        return f"{_event(rng, one, form)} while {_event(rng, two, 'verb')}"
    joint = _usual(rng, ("while", "as"))
    return f"{_event(rng, one, form)} {joint} {_event(rng, two, form)}"


def _over(rng: Generator, text: str, scene: Scene, form: Form) -> str:
    """``text`` with the background added."""
    known = BACKGROUND_WORDS[scene.background or ""]
    wording = _usual(rng, known.wordings)
    adjective = _adjective(rng, known, scene.strength, SAYS_STRENGTH)
    subject = _with(wording.subject, adjective)
    template = int(rng.integers(4))
    if template == 0:
        return f"{text} over the sound of {_with(known.one, adjective)}"
    # with a second "while" a reader would not know what happens at the same time
    if form == "verb" and len(scene.soundings) == 1 and template == 1:
        return f"{text} {_usual(rng, ('while', 'as'))} {subject} {wording.verb}"
    if form == "verb" and len(scene.soundings) == len(scene.groups) and template == 2:
        return f"{subject} {wording.verb} while {text}"
    return f"{text} with {subject} {wording.gerund} in the background"


def _event(rng: Generator, sounding: Sounding, form: Form, noun: bool = False) -> str:
    """A clause, or a noun phrase where ``noun`` allows it and the kind has one."""
    known = EVENT_WORDS[sounding.kind]
    if noun and known.one and rng.random() < AS_NOUN:
        return _noun(rng, sounding, known)
    wording: Wording = _usual(rng, known.wordings)
    adjective = _adjective(rng, known, sounding.pitch, SAYS_PITCH)
    verb = wording.verb if form == "verb" else wording.gerund
    return " ".join([_with(wording.subject, adjective), verb, *_manner(rng, sounding)])


def _manner(rng: Generator, sounding: Sounding) -> list[str]:
    """Adverbs: *loudly twice*, *three times in the distance*."""
    loud = []
    if sounding.loudness and rng.random() < SAYS_LOUDNESS:
        loud = [_pick(rng, LOUD_ADVERBS[sounding.loudness])]
    often = []
    if sounding.count and rng.random() < (SAYS_ONCE if sounding.count == 1 else SAYS_COUNT):
        often = [_usual(rng, COUNT_ADVERBS.get(sounding.count, MANY_ADVERBS))]
    return often + loud if loud == ["in the distance"] else loud + often


def _noun(rng: Generator, sounding: Sounding, known: EventWords) -> str:
    """*a loud beep*, *two dog barks*, *several faint knocks on a door*."""
    loud = []
    if sounding.loudness and rng.random() < SAYS_LOUDNESS:
        loud = [_usual(rng, LOUD_ADJECTIVES[sounding.loudness])]
    if sounding.count == 1:
        return " ".join(["a", *loud, known.one])
    often = _usual(rng, COUNT_ADJECTIVES.get(sounding.count, MANY_ADJECTIVES))
    return " ".join([often, *loud, known.several])


def _adjective(rng: Generator, known: EventWords, level: Level, says: float) -> str:
    said = {"low": known.low, "high": known.high, "": ()}[level]
    return _usual(rng, said) if said and rng.random() < says else ""


def _with(subject: str, adjective: str) -> str:
    return subject.replace("~", f"{adjective} " if adjective else "")


def _usual(rng: Generator, choices: Sequence[T]) -> T:
    """The first one in about half of all cases, else one of the others."""
    if len(choices) == 1 or rng.random() < USUAL:
        return choices[0]
    return choices[1 + int(rng.integers(len(choices) - 1))]


def _pick(rng: Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]

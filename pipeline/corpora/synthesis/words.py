"""The words of the captions of synthesised clips.

In a subject, ``~`` is where an adjective may stand. The first wording of a kind is the usual one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """``subject verb`` or ``subject gerund``: *a ~dog*, *barks*, *barking*."""

    subject: str
    verb: str
    gerund: str


@dataclass(frozen=True)
class EventWords:
    """A kind's wordings, its name as one thing and as several, and adjectives for its pitch."""

    wordings: tuple[Wording, ...]
    one: str = ""  # "dog bark"; "" where the kind has no count
    several: str = ""  # "dog barks"
    low: tuple[str, ...] = ()
    high: tuple[str, ...] = ()


def words(
    *wordings: str, noun: str = "", low: tuple[str, ...] = (), high: tuple[str, ...] = ()
) -> EventWords:
    """A row of the tables below: ``subject | verb | gerund``, and ``noun`` with ``[plural]``."""
    parts = tuple(Wording(*wording.split(" | ")) for wording in wordings)
    one, several = re.sub(r"\[.*]", "", noun), re.sub(r"[][]", "", noun)
    return EventWords(parts, one, several, low, high)


DEEP, SHRILL = ("low", "deep"), ("high", "shrill")
BIG, SMALL = ("big", "large"), ("small", "little")
HEAVY, LIGHT = ("heavy", "big"), ("light", "small")

# fmt: off
EVENT_WORDS: dict[str, EventWords] = {
    "bark": words(
        "a ~dog | barks | barking", "a ~hound | barks | barking", noun="dog bark[s]",
        low=BIG, high=SMALL),
    "beep": words(
        "a ~device | beeps | beeping", "a ~alarm | beeps | beeping", noun="beep[s]",
        low=DEEP, high=SHRILL),
    "bell": words(
        "a ~bell | rings | ringing", "a ~bell | chimes | chiming", "a ~bell | tolls | tolling",
        noun="bell chime[s]", low=BIG, high=SMALL),
    "knock": words(
        "someone | knocks on a door | knocking on a door",
        "a person | knocks on wood | knocking on wood", noun="knock[s] on a door"),
    "drum": words(
        "a ~drum | is hit | being hit", "a ~drum | beats | beating", noun="drum beat[s]",
        low=BIG, high=SMALL),
    "drip": words(
        "water | drips | dripping", "a drop of water | falls | falling", noun="drip[s] of water"),
    "laser": words("a laser | fires | firing", "a laser | zaps | zapping", noun="laser shot[s]"),
    "gunshot": words("a gun | fires | firing", "a gun | is shot | being shot", noun="gunshot[s]"),
    "glass": words(
        "glass | breaks | breaking", "glass | shatters | shattering", noun="crash[es] of glass"),
    "owl": words("an owl | hoots | hooting", noun="owl hoot[s]"),
    "cat": words(
        "a ~cat | meows | meowing", "a ~cat | mews | mewing", noun="cat meow[s]",
        low=BIG, high=SMALL),
    "guitar": words(
        "a ~guitar string | is plucked | being plucked",
        "a ~guitar note | is played | being played", noun="guitar note[s]",
        low=DEEP, high=("high", "thin")),
    "horn": words(
        "a ~horn | honks | honking", "a ~car horn | honks | honking", "a ~horn | blows | blowing",
        noun="car honk[s]", low=DEEP, high=SHRILL),
    "whistle": words(
        "a ~whistle | blows | blowing", "a ~whistle | sounds | sounding", noun="whistle blast[s]",
        low=DEEP, high=SHRILL),
    "siren": words(
        "a ~siren | wails | wailing", "a ~siren | blares | blaring",
        "an emergency siren | sounds | sounding", low=DEEP, high=SHRILL),
    "bird": words(
        "a ~bird | chirps | chirping", "a ~bird | tweets | tweeting", "a ~bird | sings | singing",
        low=BIG, high=SMALL),
    "footsteps": words(
        "someone | walks | walking", "a person | walks on a hard floor | walking on a hard floor",
        "someone | walks around | walking around"),
    "engine": words(
        "a ~engine | runs | running", "a ~motor | runs | running", "a ~engine | idles | idling",
        low=HEAVY, high=LIGHT),
    "phone": words("a telephone | rings | ringing", "a phone | rings | ringing"),
    "clock": words("a clock | ticks | ticking", "a watch | ticks | ticking"),
    "typing": words(
        "someone | types on a keyboard | typing on a keyboard",
        "a person | types on a computer keyboard | typing on a computer keyboard"),
    "man": words(
        "a man | speaks | speaking", "a man | talks | talking", "a male voice | speaks | speaking"),
    "woman": words(
        "a woman | speaks | speaking", "a woman | talks | talking",
        "a female voice | speaks | speaking"),
    "baby": words("a baby | cries | crying", "an infant | cries | crying"),
    "cricket": words("a cricket | chirps | chirping", "an insect | trills | trilling"),
    "drill": words(
        "a ~drill | whirs | whirring", "a ~drill | runs | running",
        "a ~power tool | whirs | whirring", low=HEAVY, high=LIGHT),
    "applause": words(
        "people | clap | clapping", "a crowd | applauds | applauding",
        "an audience | claps | clapping"),
    "thunder": words("thunder | rumbles | rumbling", "thunder | rolls | rolling"),
}

# of a background: its noun has no plural; low and high say how strong it is
BACKGROUND_WORDS: dict[str, EventWords] = {
    "rain": words(
        "~rain | falls | falling", "~rain | pours down | pouring down", noun="~rain",
        low=("light",), high=("heavy",)),
    "wind": words(
        "the ~wind | blows | blowing", "~wind | blows | blowing", noun="the ~wind",
        low=("gentle", "light"), high=("strong",)),
    "traffic": words(
        "~traffic | passes by | passing by", "cars | drive by | driving by", noun="~traffic",
        low=("distant",), high=("heavy", "busy")),
    "hum": words(
        "a machine | hums | humming", "an appliance | hums | humming", noun="a ~hum",
        low=("faint",), high=("loud",)),
    "static": words(
        "a radio | hisses | hissing", "~static | crackles | crackling", noun="~static",
        low=("faint",), high=("loud",)),
    "waves": words(
        "~waves | crash on the shore | crashing on the shore",
        "~waves | break on the shore | breaking on the shore", noun="~waves",
        low=("gentle",), high=("strong",)),
}
# fmt: on

LOUD_ADVERBS = {"low": ("softly", "quietly", "in the distance"), "high": ("loudly",)}
LOUD_ADJECTIVES = {"low": ("faint", "distant"), "high": ("loud",)}
COUNT_ADVERBS = {1: ("once",), 2: ("twice", "two times"), 3: ("three times",)}
MANY_ADVERBS = ("several times", "repeatedly", "many times")
COUNT_ADJECTIVES = {2: ("two",), 3: ("three",)}
MANY_ADJECTIVES = ("several", "a series of", "many")

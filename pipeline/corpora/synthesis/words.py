"""The words of the captions of synthesised clips.

In a subject, ``~`` is where an adjective may stand. The first wording of a kind is the usual one.
"""

from __future__ import annotations

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
    one: str = ""  # "~dog bark"; "" where the kind has no count
    several: str = ""
    low: tuple[str, ...] = ()
    high: tuple[str, ...] = ()


def words(
    *wordings: tuple[str, str, str],
    one: str = "",
    several: str = "",
    low: tuple[str, ...] = (),
    high: tuple[str, ...] = (),
) -> EventWords:
    return EventWords(tuple(Wording(*wording) for wording in wordings), one, several, low, high)


DEEP, SHRILL = ("low", "deep"), ("high", "shrill")
BIG, SMALL = ("big", "large"), ("small", "little")

EVENT_WORDS: dict[str, EventWords] = {
    "bark": words(
        ("a ~dog", "barks", "barking"),
        ("a ~hound", "barks", "barking"),
        one="dog bark",
        several="dog barks",
        low=BIG,
        high=SMALL,
    ),
    "beep": words(
        ("a ~device", "beeps", "beeping"),
        ("a ~alarm", "beeps", "beeping"),
        one="beep",
        several="beeps",
        low=DEEP,
        high=SHRILL,
    ),
    "bell": words(
        ("a ~bell", "rings", "ringing"),
        ("a ~bell", "chimes", "chiming"),
        ("a ~bell", "tolls", "tolling"),
        one="bell chime",
        several="bell chimes",
        low=BIG,
        high=SMALL,
    ),
    "knock": words(
        ("someone", "knocks on a door", "knocking on a door"),
        ("a person", "knocks on wood", "knocking on wood"),
        one="knock on a door",
        several="knocks on a door",
    ),
    "drum": words(
        ("a ~drum", "is hit", "being hit"),
        ("a ~drum", "beats", "beating"),
        one="drum beat",
        several="drum beats",
        low=BIG,
        high=SMALL,
    ),
    "drip": words(
        ("water", "drips", "dripping"),
        ("a drop of water", "falls", "falling"),
        one="drip of water",
        several="drips of water",
    ),
    "laser": words(
        ("a laser", "fires", "firing"),
        ("a laser", "zaps", "zapping"),
        one="laser shot",
        several="laser shots",
    ),
    "gunshot": words(
        ("a gun", "fires", "firing"),
        ("a gun", "is shot", "being shot"),
        one="gunshot",
        several="gunshots",
    ),
    "glass": words(
        ("glass", "breaks", "breaking"),
        ("glass", "shatters", "shattering"),
        one="crash of glass",
        several="crashes of glass",
    ),
    "owl": words(("an owl", "hoots", "hooting"), one="owl hoot", several="owl hoots"),
    "cat": words(
        ("a ~cat", "meows", "meowing"),
        ("a ~cat", "mews", "mewing"),
        one="cat meow",
        several="cat meows",
        low=BIG,
        high=SMALL,
    ),
    "guitar": words(
        ("a ~guitar string", "is plucked", "being plucked"),
        ("a ~guitar note", "is played", "being played"),
        one="guitar note",
        several="guitar notes",
        low=DEEP,
        high=("high", "thin"),
    ),
    "horn": words(
        ("a ~horn", "honks", "honking"),
        ("a ~car horn", "honks", "honking"),
        ("a ~horn", "blows", "blowing"),
        one="car honk",
        several="car honks",
        low=DEEP,
        high=SHRILL,
    ),
    "whistle": words(
        ("a ~whistle", "blows", "blowing"),
        ("a ~whistle", "sounds", "sounding"),
        one="whistle blast",
        several="whistle blasts",
        low=DEEP,
        high=SHRILL,
    ),
    "siren": words(
        ("a ~siren", "wails", "wailing"),
        ("a ~siren", "blares", "blaring"),
        ("an emergency siren", "sounds", "sounding"),
        low=DEEP,
        high=SHRILL,
    ),
    "bird": words(
        ("a ~bird", "chirps", "chirping"),
        ("a ~bird", "tweets", "tweeting"),
        ("a ~bird", "sings", "singing"),
        low=BIG,
        high=SMALL,
    ),
    "footsteps": words(
        ("someone", "walks", "walking"),
        ("a person", "walks on a hard floor", "walking on a hard floor"),
        ("someone", "walks around", "walking around"),
    ),
    "engine": words(
        ("a ~engine", "runs", "running"),
        ("a ~motor", "runs", "running"),
        ("a ~engine", "idles", "idling"),
        low=("heavy", "big"),
        high=("light", "small"),
    ),
    "phone": words(
        ("a telephone", "rings", "ringing"),
        ("a phone", "rings", "ringing"),
    ),
    "clock": words(
        ("a clock", "ticks", "ticking"),
        ("a watch", "ticks", "ticking"),
    ),
    "typing": words(
        ("someone", "types on a keyboard", "typing on a keyboard"),
        ("a person", "types on a computer keyboard", "typing on a computer keyboard"),
    ),
    "man": words(
        ("a man", "speaks", "speaking"),
        ("a man", "talks", "talking"),
        ("a male voice", "speaks", "speaking"),
    ),
    "woman": words(
        ("a woman", "speaks", "speaking"),
        ("a woman", "talks", "talking"),
        ("a female voice", "speaks", "speaking"),
    ),
    "baby": words(
        ("a baby", "cries", "crying"),
        ("an infant", "cries", "crying"),
    ),
    "cricket": words(
        ("a cricket", "chirps", "chirping"),
        ("an insect", "trills", "trilling"),
    ),
    "drill": words(
        ("a ~drill", "whirs", "whirring"),
        ("a ~drill", "runs", "running"),
        ("a ~power tool", "whirs", "whirring"),
        low=("heavy", "big"),
        high=("light", "small"),
    ),
    "applause": words(
        ("people", "clap", "clapping"),
        ("a crowd", "applauds", "applauding"),
        ("an audience", "claps", "clapping"),
    ),
    "thunder": words(
        ("thunder", "rumbles", "rumbling"),
        ("thunder", "rolls", "rolling"),
    ),
}

# of a background: one is its name as a noun, low and high say how strong it is
BACKGROUND_WORDS: dict[str, EventWords] = {
    "rain": words(
        ("~rain", "falls", "falling"),
        ("~rain", "pours down", "pouring down"),
        one="~rain",
        low=("light",),
        high=("heavy",),
    ),
    "wind": words(
        ("the ~wind", "blows", "blowing"),
        ("~wind", "blows", "blowing"),
        one="the ~wind",
        low=("gentle", "light"),
        high=("strong",),
    ),
    "traffic": words(
        ("~traffic", "passes by", "passing by"),
        ("cars", "drive by", "driving by"),
        one="~traffic",
        low=("distant",),
        high=("heavy", "busy"),
    ),
    "hum": words(
        ("a machine", "hums", "humming"),
        ("an appliance", "hums", "humming"),
        one="a ~hum",
        low=("faint",),
        high=("loud",),
    ),
    "static": words(
        ("a radio", "hisses", "hissing"),
        ("~static", "crackles", "crackling"),
        one="~static",
        low=("faint",),
        high=("loud",),
    ),
    "waves": words(
        ("~waves", "crash on the shore", "crashing on the shore"),
        ("~waves", "break on the shore", "breaking on the shore"),
        one="~waves",
        low=("gentle",),
        high=("strong",),
    ),
}

LOUD_ADVERBS = {"low": ("softly", "quietly", "in the distance"), "high": ("loudly",)}
LOUD_ADJECTIVES = {"low": ("faint", "distant"), "high": ("loud",)}
COUNT_ADVERBS = {1: ("once",), 2: ("twice", "two times"), 3: ("three times",)}
MANY_ADVERBS = ("several times", "repeatedly", "many times")
COUNT_ADJECTIVES = {2: ("two",), 3: ("three",)}
MANY_ADJECTIVES = ("several", "a series of", "many")

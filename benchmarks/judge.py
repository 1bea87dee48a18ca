"""How good is the judge of the right kind? ``python -m benchmarks.judge``, with ../shared/data.

benchmarks/kinds.py says which kind of sound a caption names, by what people write of each kind and
by its name. Two sets of captions, of which no system wrote any, tell how often it is right:

- *unseen*: human captions of ``realsounds`` that describe no clip of the development split, which
  the judge knows;
- *public*: captions of AudioCaps and Clotho that name one kind by its own word (``WORDS``) and none
  else, at most ``EACH`` a kind, and none that ``realsounds`` took. Rough, as a word is not always
  the sound (a wave is often one of radio), but the same for all judges. The mean is over kinds.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict

import numpy as np

from benchmarks.kinds import DESCRIBES, embed, judge
from benchmarks.real_ears import SHARED, SOUNDS, heard_kinds, human_captions

EACH = 40  # captions
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 1e6)  # of the names; the last: names alone
PUBLIC = ("clotho_train.csv", "audiocaps_train.csv")
WORDS = {
    "airplane": r"airplane|aeroplane|plane\b|jet",
    "breathing": r"breath",
    "brushing_teeth": r"toothbrush|brush\w* (?:\w+ )?teeth",
    "car_horn": r"\bhorn|honk",
    "cat": r"\bcats?\b|meow|kitten",
    "chainsaw": r"chain ?saw",
    "chirping_birds": r"\bbirds?\b",
    "church_bells": r"church bell|bells? (toll|ring|chim)",
    "clapping": r"\bclap|applau",
    "clock_tick": r"tick",
    "coughing": r"cough",
    "cow": r"\bcows?\b|cattle|\bmoo",
    "crackling_fire": r"\bfire\b|campfire|bonfire",
    "crickets": r"cricket",
    "crow": r"\bcrows?\b(?! of)|caw",
    "crying_baby": r"baby|infant",
    "dog": r"\bdogs?\b|bark|puppy",
    "door_wood_creaks": r"creak",
    "door_wood_knock": r"knock",
    "engine": r"engine|motor\b",
    "fireworks": r"firework",
    "footsteps": r"footstep|walk",
    "frog": r"frog|croak",
    "glass_breaking": r"glass \w*(break|shatter|smash)|(break|shatter|smash)\w* glass",
    "hand_saw": r"\bsaw(s|ing)?\b",
    "helicopter": r"helicopter",
    "hen": r"\bhens?\b|cluck",
    "insects": r"insect|\bbees?\b|\bfly\b|\bflies\b|mosquito",
    "keyboard_typing": r"keyboard|typing|types",
    "laughing": r"laugh|giggl|chuckl",
    "pig": r"\bpigs?\b|oink",
    "pouring_water": r"pour",
    "rain": r"\brain",
    "rooster": r"rooster|cockerel",
    "sea_waves": r"\bwaves?\b|ocean|surf",
    "sheep": r"sheep|goat|bleat|\bbaa",
    "siren": r"siren",
    "sneezing": r"sneez",
    "snoring": r"snor",
    "thunderstorm": r"thunder",
    "toilet_flush": r"toilet|flush",
    "train": r"\btrains?\b|railroad",
    "vacuum_cleaner": r"vacuum",
    "washing_machine": r"washing machine",
    "water_drops": r"drip|droplet|drops of water|water drops",
    "wind": r"\bwind",
}
PEOPLE = r"\bm[ae]n\b|wom[ae]n|speak|talk|music|sing|child|voice|people|speech|conversation"


def learned_captions() -> list[str]:
    """The captions of AudioCaps and Clotho that are there to learn from, each once."""
    texts: dict[str, None] = {}
    for name in PUBLIC:
        with (SHARED / "data" / "captions" / name).open(encoding="utf-8") as stream:
            rows = [*csv.DictReader(stream)]
        texts |= {v: None for row in rows for k, v in row.items() if k.startswith("caption") and v}
    return [*texts]


def public_captions(known: set[str]) -> list[tuple[str, str]]:
    """(caption, kind) of those that name one kind.

    Args:
        known: captions that are left out.
    """
    found = defaultdict(list)
    for text in learned_captions():
        named = [kind for kind, word in WORDS.items() if re.search(word, text.lower())]
        if len(named) == 1 and text not in known and not re.search(PEOPLE, text.lower()):
            found[named[0]].append(text)
    draw = np.random.default_rng(0)
    return [
        (own[at], kind)
        for kind, own in sorted(found.items())
        for at in draw.permutation(len(own))[:EACH].tolist()
    ]


def main() -> None:
    if not SOUNDS.is_dir():
        raise SystemExit(f"{SOUNDS} is not there; this benchmark needs it")
    kinds = heard_kinds()
    described: defaultdict[str, list[str]] = defaultdict(list)
    others: dict[tuple[str, str], None] = {}
    for name, captions in human_captions(DESCRIBES).items():
        described[kinds[name]] += captions
    for split in ("validation", "evaluation"):
        for name, captions in human_captions(split).items():
            others |= {(text, kinds[name]): None for text in captions}
    unseen = [(text, kind) for text, kind in others if text not in described[kind]]
    known = {text for text, _ in others} | {t for own in described.values() for t in own}
    public = public_captions(known)
    every = sorted({*kinds.values()})
    sets = [
        (embed([text for text, _ in own]), [kind for _, kind in own]) for own in (unseen, public)
    ]
    print(f"| weight of the name | {len(unseen)} unseen | {len(public)} public, mean over kinds |")
    print("|---:|---:|---:|")
    for weight in WEIGHTS:
        places = judge(every, described, weight).places
        right = [
            np.array([every[at] for at in (texts @ places.T).argmax(1)]) == truth
            for texts, truth in sets
        ]
        by_kind = [right[1][np.array(sets[1][1]) == kind].mean() for kind in {*sets[1][1]}]
        share = "alone" if weight > 1e3 else str(weight)
        print(f"| {share} | {right[0].mean():.1%} | {np.mean(by_kind):.1%} |")


if __name__ == "__main__":
    main()

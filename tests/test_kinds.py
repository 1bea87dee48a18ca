"""The judge of the right kind: against its definition, and on captions that a name misleads."""

from __future__ import annotations

import numpy as np

from benchmarks.kinds import by_names, described_by, embed, judge
from pipeline.corpora.manifest import Clip

KINDS = ["chirping_birds", "crickets", "hen", "pouring_water", "rooster", "water_drops"]
DESCRIBED = {  # of no clip that is judged
    "chirping_birds": ["Birds are chirping in a tree", "Several birds tweet and sing"],
    "crickets": ["Crickets chirp at night", "Insects such as crickets chirp in the grass"],
    "hen": ["A chicken clucks", "Hens are clucking in a barn"],
    "pouring_water": ["Someone pours water into a cup", "A drink is poured"],
    "rooster": ["A rooster crows", "A cockerel calls at dawn"],
    "water_drops": ["A tap is dripping", "Water drips into a sink"],
}
MISLEADING = {
    "A cricket is chirping loudly very close by": "crickets",
    "Crickets are chirping at a constant rate throughout": "crickets",
    "The continuous clucking of a chicken is present": "hen",
    "Water is dripping from a faucet that is not closed fully": "water_drops",
}


def test_what_people_write_of_a_kind_sets_its_name_right() -> None:
    captions, truth = [*MISLEADING], [*MISLEADING.values()]
    assert by_names(KINDS).accuracy(captions, truth) == 0  # by its name each is another kind
    assert judge(KINDS, DESCRIBED).named(captions) == truth


def test_a_kind_lies_between_its_captions_and_its_name() -> None:
    """Plain loops; *hen* has no captions here, and lies at its name."""
    described = {kind: own for kind, own in DESCRIBED.items() if kind != "hen"}
    found = judge(KINDS, described, name_weight=0.5)
    for kind, place in zip(KINDS, found.places, strict=True):
        expected = 0.5 * embed([kind.replace("_", " ")])[0]
        for caption in described.get(kind, ()):
            expected = expected + embed([caption])[0] / len(described[kind])
        np.testing.assert_allclose(place, expected / np.linalg.norm(expected), atol=1e-5)
    (hen,) = embed(["hen"])
    np.testing.assert_allclose(found.places[KINDS.index("hen")], hen, atol=1e-5)


def test_only_development_clips_of_one_kind_say_what_it_is_called() -> None:
    def clip(name: str, split: str, *events: str) -> Clip:
        return Clip(name, split, f"{name}.wav", 1.0, (f"{name} is heard",), events)

    clips = [
        clip("one", "development", "hen"),
        clip("two", "development", "hen", "rooster"),
        clip("three", "evaluation", "rooster"),
        clip("four", "development", "hen", "hen"),
        clip("five", "development"),
    ]
    assert described_by(clips) == {"hen": ["one is heard", "four is heard"]}

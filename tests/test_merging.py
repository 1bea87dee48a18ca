"""The line for a whole recording: chosen captions of its windows, checked against hand counts."""

from __future__ import annotations

import pytest

from earwitness.captions.merging import merged, similarity


def test_similarity_is_the_f1_of_words_and_pairs() -> None:
    """``a dog barks`` has 3 words and 2 pairs, the next 4 and 3; a, dog and a dog are in both."""
    found = similarity(["a dog barks", "a dog runs away", "A DOG barks", "rain", ""])
    assert found[0, 1] == pytest.approx(2 * 3 / (5 + 7))
    assert found[0, 2] == found[0, 0] == 1
    assert found[0, 3] == found[4, 0] == 0
    assert (found == found.T).all()


def test_what_lasts_longest_stands_for_the_recording() -> None:
    windows = [("rain falls", 10.0)] * 30 + [("a dog barks", 4.0), ("rain falls hard", 9.0)]
    assert merged(windows) == "rain falls"


def test_several_captions_are_in_the_order_of_time() -> None:
    dog, rain, car, bell = "a dog barks", "rain falls", "cars pass by", "some bells ring"
    windows = [(dog, 10.0), (rain, 30.0), (car, 20.0), (rain, 10.0), (bell, 1.0), (dog, 10.0)]
    assert merged(windows) == f"{dog}; {rain}; {car}"


def test_likeness_and_not_frequency_decides() -> None:
    """Three say that it rains, each in other words; the one that is most like both is taken."""
    windows = [
        ("rain falls", 10.0),
        ("rain falls on a roof", 10.0),
        ("water on a roof", 10.0),
        ("a siren", 10.0),
    ]
    first = merged(windows).split("; ")
    assert "rain falls on a roof" in first and "a siren" in first
    assert merged(windows[:1]) == "rain falls"
    assert merged([("", 1.0)]) == ""

"""Windows of recordings: where they begin and end, whatever the blocks that are read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.audio.cutting import Cutting, cut
from pipeline.errors import EarwitnessError

RATE = 1000
Spans = list[tuple[float, float]]


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    draw = np.random.default_rng(seed)
    return draw.uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


def spans(sound: NDArray[np.float32], cutting: Cutting, bounds: Sequence[int] = ()) -> Spans:
    """Of each window the seconds; its samples are those of the sound there."""
    found = []
    for start, samples in cut(np.split(sound, bounds), RATE, cutting):
        np.testing.assert_array_equal(samples, sound[start : start + len(samples)])
        found.append((start / RATE, (start + len(samples)) / RATE))
    return found


@pytest.mark.parametrize(
    ("seconds", "hop", "expected"),
    [
        (4.0, None, [(0, 4)]),
        (10.0, None, [(0, 10)]),
        (10.9, None, [(0, 10.9)]),  # a rest of less than a second is no window
        (11.0, None, [(0, 10), (10, 11)]),
        (25.0, None, [(0, 10), (10, 20), (20, 25)]),
        (25.0, 5.0, [(0, 10), (5, 15), (10, 20), (15, 25)]),
        (26.0, 5.0, [(0, 10), (5, 15), (10, 20), (15, 25), (20, 26)]),
        (0.001, None, [(0, 0.001)]),
    ],
)
def test_fixed_windows(seconds: float, hop: float | None, expected: Spans) -> None:
    assert spans(noise(seconds), Cutting("fixed", 10.0, hop)) == expected


def test_windows_follow_silence() -> None:
    """Pauses of 0.4 s in noise: each cut is in one, that nearest to ten seconds."""
    sound = noise(60)
    pauses = [7.0, 12.5, 19.0, 27.5, 33.5, 41.0, 49.0]
    for pause in pauses:
        sound[round(pause * RATE) : round((pause + 0.4) * RATE)] *= 0.001
    found = spans(sound, Cutting("silence", 10.0))
    starts = [start for start, _ in found[1:]]
    # from 0, 12.5 is nearer to 10 than 7 is; from 12.7, 19 is nearer to 22.7 than 27.5 is; …
    near = [min(pauses, key=lambda pause: abs(pause + 0.2 - start)) for start in starts]
    assert near == [12.5, 19.0, 27.5, 41.0, 49.0]
    for start in starts:
        assert any(pause < start < pause + 0.4 for pause in pauses)
    assert found[0][0] == 0 and found[-1][1] == 60
    assert [end for _, end in found[:-1]] == starts


def test_without_any_pause_windows_are_about_as_long_as_asked() -> None:
    for sound in (noise(100), np.zeros(100 * RATE, np.float32)):
        lengths = [end - start for start, end in spans(sound, Cutting("silence", 10.0))]
        assert max(abs(length - 10) for length in lengths[:-1]) < 2.5
        assert sum(lengths) == pytest.approx(100)


@given(
    seconds=st.floats(0.01, 40),
    seed=st.integers(0, 99),
    bounds=st.lists(st.integers(0, 40 * RATE), max_size=12).map(sorted),
    cutting=st.sampled_from(
        [Cutting("silence", 3.0), Cutting("fixed", 3.0), Cutting("fixed", 3.0, 0.7)]
    ),
)
def test_windows_do_not_depend_on_the_blocks(
    seconds: float, seed: int, bounds: list[int], cutting: Cutting
) -> None:
    """They leave nothing out, and all but the last have the length that they may have."""
    sound = noise(seconds, seed)
    sound *= np.abs(np.sin(np.arange(len(sound)) / 777))  # has quiet places
    found = spans(sound, cutting)
    assert spans(sound, cutting, bounds) == found
    assert found[0][0] == 0 and found[-1][1] == len(sound) / RATE
    assert all(after <= end for (_, end), (after, _) in pairwise(found))
    for start, end in found:
        if cutting.method == "silence":
            assert end - start <= 4.5 + 1e-9 and (end - start >= 1.5 or len(found) == 1)
        else:
            assert end - start < 4.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("silence", 0.1), "a window of 0.1 seconds; give at least 0.5"),
        (("silence", float("nan")), "a window of nan seconds"),
        (("silence", float("inf")), "a window of inf seconds"),
        (("silence", 10.0, 5.0), "no fixed hop"),
        (("fixed", 10.0, 0.0), "a hop of 0 seconds; give 0.5 to the window's 10"),
        (("fixed", 10.0, 11.0), "so that no sound is left out"),
    ],
)
def test_what_cannot_be_cut_so(settings: tuple[str, float], words: str) -> None:
    with pytest.raises(EarwitnessError, match=words):
        Cutting(*settings)  # type: ignore[arg-type]

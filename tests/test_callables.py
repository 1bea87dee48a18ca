"""``earwitness.pipeline``, called as transformers' pipelines are, gives what the system gives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import soundfile
from tiny_repository import RATE, SECONDS, make_repository

import earwitness
from earwitness.callables import CaptioningPipeline
from pipeline.errors import EarwitnessError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make_repository(root)
    return root


@pytest.fixture(scope="module")
def pipe(root: Path) -> CaptioningPipeline:
    return earwitness.pipeline("audio-captioning", "alone", root=root, device="cpu")


def same(found: Any, expected: Any) -> bool:
    """The same captions, and as probable up to rounding; in lists of any depth."""
    if isinstance(expected, list):
        assert isinstance(found, list) and len(found) == len(expected)
        return all(map(same, found, expected))
    return found["generated_text"] == expected["generated_text"] and math.isclose(
        found["score"], expected["score"], rel_tol=1e-3
    )


def wav(root: Path, number: int) -> str:
    return str(root / f"sounds/{number}.wav")


def test_one_sound_gives_a_list_and_several_a_list_of_lists(
    root: Path, pipe: CaptioningPipeline
) -> None:
    captions = pipe.system.caption([wav(root, number) for number in range(len(SECONDS))])
    expected = [[{"generated_text": c.text, "score": math.exp(c.log_prob)}] for c in captions]
    files = [wav(root, number) for number in range(len(SECONDS))]
    assert same(pipe(files, batch_size=2), expected)
    assert same(pipe(files[1]), expected[1]) and same(pipe(Path(files[1])), expected[1])
    assert same(pipe([files[1]]), [expected[1]])
    assert pipe([]) == []
    assert all(0 < answer[0]["score"] < 1 for answer in expected)


def test_arrays_of_several_rates_stand_where_they_were_given(
    root: Path, pipe: CaptioningPipeline
) -> None:
    samples, rate = soundfile.read(wav(root, 1), dtype="float32")
    assert rate == RATE
    raw = {"raw": samples, "sampling_rate": rate}
    other = {"array": samples[::2].copy(), "sampling_rate": rate // 2}  # as datasets has it
    found = pipe([raw, wav(root, 0), other, raw])
    assert same(found, [pipe(wav(root, 1)), pipe(wav(root, 0)), pipe(other), pipe(raw)])
    assert not same(found[:1], found[2:3])


def test_more_captions_are_the_candidates(root: Path, pipe: CaptioningPipeline) -> None:
    (caption,) = pipe.system.caption([wav(root, 1)])
    found = pipe(wav(root, 1), num_return_sequences=3)
    assert [own["generated_text"] for own in found] == [
        caption.text,
        *(text for text, _ in caption.candidates[:2]),
    ]
    with pytest.raises(EarwitnessError, match="this search finds 3 beside the best"):
        pipe(wav(root, 1), num_return_sequences=5)
    assert len(pipe(wav(root, 1), num_return_sequences=5, beams=6)) == 5


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"raw": [0.0] * 99}, r"inputs\[0\]: give a file, or .*sampling_rate"),
        ({"sampling_rate": RATE}, r"inputs\[0\]: give a file"),
        ({"raw": [0.0] * 99, "sampling_rate": "16k"}, "a whole number"),
        (["x.wav", {"path": "x"}], r"inputs\[1\]: give a file"),
        ([3], r"inputs\[0\]: give a file"),
        ("none.wav", "none.wav: not there"),
    ],
)
def test_what_is_no_sound_is_said(pipe: CaptioningPipeline, given: Any, reason: str) -> None:
    with pytest.raises(EarwitnessError, match=reason):
        pipe(given)


def test_tasks_and_systems_that_are_not_there(root: Path) -> None:
    with pytest.raises(EarwitnessError, match="no task 'audio-caption'; did you mean 'audio-capt"):
        earwitness.pipeline("audio-caption", "alone", root=root)
    with pytest.raises(EarwitnessError, match="no system 'towers'"):
        earwitness.pipeline("audio-captioning", "towers", root=root)


def test_an_exported_folder_is_a_model_too(
    root: Path, pipe: CaptioningPipeline, tmp_path: Path
) -> None:
    folder = earwitness.export("alone", tmp_path / "alone", root=root)
    other = earwitness.pipeline("audio-captioning", folder, device="cpu")
    assert other(wav(root, 2)) == pipe(wav(root, 2))

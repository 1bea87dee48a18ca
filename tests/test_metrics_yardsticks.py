"""The yardsticks against exhaustive search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.corpora.manifest import Clip, Manifest
from pipeline.features.store import Header, write_store
from pipeline.metrics.cider_d import CiderD
from pipeline.metrics.yardsticks import (
    consensus_captions,
    constant_caption,
    human,
    joined,
    nearest_captions,
    yardsticks,
)
from pipeline.text.ptb import tokenize

TRAINING = [
    ["A dog barks.", "The dog is barking", "a dog barks loudly"],
    ["Rain falls on a roof", "it is raining", "rain is falling on the roof"],
    ["A car passes by", "a car drives past", "A car passes"],
]
VALIDATION = [["rain is falling", "rain falls"], ["a car passes by"], ["it rains on a roof"]]


def test_constant_is_the_best_of_all_training_captions() -> None:
    captions = [caption for row in TRAINING for caption in row]
    scorer = CiderD([tokenize(row) for row in VALIDATION])
    scores = [scorer.score(tokenize([caption]) * 3).corpus for caption in captions]
    assert constant_caption(TRAINING, VALIDATION) == captions[int(np.argmax(scores))]


def test_constant_without_validation_is_chosen_on_training() -> None:
    assert constant_caption(TRAINING, None) == constant_caption(TRAINING, TRAINING)


def test_constant_of_a_validation_split_of_one_clip_is_chosen_on_training() -> None:
    """CIDEr-D of one clip cannot be made: the first caption would win, whatever it says."""
    training = [TRAINING[1], TRAINING[0], *TRAINING[2:], ["a loud car passes", "a car passes by"]]
    chosen = constant_caption(training, [["a dog barks"]])
    assert chosen == constant_caption(training, training) != training[0][0]


def test_too_few_clips_leave_yardsticks_out_with_the_reason() -> None:
    splits = (("development", TRAINING[0]), ("evaluation", TRAINING[1]))
    clips = tuple(Clip(s, s, f"{s}.wav", 1.0, tuple(row)) for s, row in splits)
    found, absent = yardsticks(Manifest("set", ".", clips), "evaluation", {})
    assert list(found) == ["yardstick_human"]
    assert "CIDEr-D of 1 clip" in absent["yardstick_constant"]


def test_consensus_agrees_best_with_the_others() -> None:
    tokens = [tokenize(row) for row in TRAINING]
    chosen = consensus_captions(TRAINING, [0, 2])
    for row, caption in chosen.items():
        scores = []
        for at, mine in enumerate(tokens[row]):
            others = [text for k, text in enumerate(tokens[row]) if k != at]
            scores.append(CiderD([others], document_frequency=tokens).score([mine]).corpus)
        assert caption == TRAINING[row][int(np.argmax(scores))]
    assert consensus_captions([["alone"]], [0]) == {0: "alone"}


def test_nearest_is_by_cosine_not_by_length() -> None:
    training = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    evaluation = np.array([[0.1, 9], [100, 1], [-2, -0.1]], dtype=np.float32)
    chosen = consensus_captions(TRAINING, [0, 1, 2])
    found = nearest_captions(training, evaluation, TRAINING)
    assert found == [chosen[1], chosen[0], chosen[2]]


def test_joined_encoders_weigh_alike() -> None:
    loud = np.array([[1000.0, 0], [0, 1000]], dtype=np.float32)
    soft = np.array([[0, 0.001], [0.001, 0]], dtype=np.float32)
    np.testing.assert_allclose(joined([loud, soft]), [[1, 0, 0, 1], [0, 1, 1, 0]], atol=1e-6)


def test_human_leaves_one_out_in_turn() -> None:
    chosen = human(TRAINING)
    assert chosen.candidates == [TRAINING[0][0], TRAINING[1][1], TRAINING[2][2]]
    for row, mine, others in zip(TRAINING, *chosen, strict=True):
        assert sorted([mine, *others]) == sorted(row)


def made(tmp_path: Path, captions: int = 2) -> tuple[Manifest, dict[str, Path]]:
    splits = ["development"] * 3 + ["validation"] + ["evaluation"] * 2
    rows = [*TRAINING, VALIDATION[0], TRAINING[1], TRAINING[2]]
    clips = tuple(
        Clip(f"clip{at}", split, f"{at}.wav", 1.0, tuple(row[:captions]))
        for at, (split, row) in enumerate(zip(splits, rows, strict=True))
    )
    vectors = np.array([[1, 0], [0, 1], [1, 1], [5, 5], [0.1, 3], [2, 2.1]], dtype=np.float16)
    write_store(
        tmp_path / "set" / "own.h5",
        Header("own", {}, "none", 0.5),
        [clip.clip_id for clip in clips],
        np.full(6, 3),
        2,
        [np.repeat(vectors, 3, axis=0)],
    )
    return Manifest("set", ".", clips), {"own": tmp_path / "set" / "own.h5"}


def test_all_three_of_a_dataset(tmp_path: Path) -> None:
    manifest, features = made(tmp_path)
    found, absent = yardsticks(manifest, "evaluation", features)
    assert absent == {}
    training = [row[:2] for row in TRAINING]
    constant = constant_caption(training, [VALIDATION[0][:2]])
    assert found["yardstick_constant"].candidates == [constant] * 2
    chosen = consensus_captions(training, [1, 2])
    assert found["yardstick_nearest"].candidates == [chosen[1], chosen[2]]
    assert [len(others) for others in found["yardstick_human"].references] == [1, 1]


def test_what_cannot_be_made_is_absent_with_its_reason(tmp_path: Path) -> None:
    manifest, _ = made(tmp_path, captions=1)
    found, absent = yardsticks(manifest, "evaluation", {"gone": tmp_path / "gone.h5"})
    assert list(found) == ["yardstick_constant"]
    assert "not there" in absent["yardstick_nearest"]
    assert "one caption" in absent["yardstick_human"]
    alone = Manifest("set", ".", manifest.split("evaluation"))
    _, absent = yardsticks(alone, "evaluation", {})
    assert "no development split" in absent["yardstick_constant"]


def test_features_of_other_clips_are_refused(tmp_path: Path) -> None:
    from pipeline.errors import EarwitnessError

    manifest, features = made(tmp_path)
    other = Manifest("set", ".", manifest.clips[:-1])
    with pytest.raises(EarwitnessError, match="not the clips of"):
        yardsticks(other, "evaluation", features)

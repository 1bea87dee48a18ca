"""Which clips are trained on, and which validate."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.config import Training
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.corpora.splits import training_clips
from pipeline.errors import EarwitnessError

RESPLIT = Training(validation_share=0.1)


def clip(split: str, number: int, captions: Sequence[str] = ("a dog barks",)) -> Clip:
    return Clip(f"{split}-{number}", split, f"{split}{number}.wav", 1.0, tuple(captions))


def manifest(development: int = 150, validation: int = 50) -> Manifest:
    counts = {"development": development, "validation": validation, "evaluation": 30}
    clips = [clip(split, n) for split, count in counts.items() for n in range(count)]
    return Manifest("toy", "audio", tuple(clips))


def test_the_splits_as_they_are() -> None:
    clips, held_out = training_clips(manifest(), Training())
    assert {c.split for c in clips} == {"development"} and len(clips) == 150
    assert {c.split for c in held_out} == {"validation"} and len(held_out) == 50


def test_nine_to_one_of_both_splits_merged() -> None:
    """SJTU 3: every clip of both is in one of the two, none of the evaluation split."""
    clips, held_out = training_clips(manifest(), RESPLIT)
    names, chosen = {c.clip_id for c in clips}, {c.clip_id for c in held_out}
    assert len(names) == len(clips) == 180 and len(chosen) == len(held_out) == 20
    whole = manifest()
    assert names | chosen == {
        c.clip_id for c in (*whole.split("development"), *whole.split("validation"))
    }
    # drawn from both alike: of 200 names, 20 chosen, some of 150 and some of 50
    assert {c.split for c in clips} == {c.split for c in held_out} == {"development", "validation"}


def test_the_new_split_is_any_seeds_and_stays_when_clips_come() -> None:
    """A clip that stays in the dataset changes sides only where the share's edge moves."""
    first = training_clips(manifest(), RESPLIT)[1]
    assert training_clips(manifest(), RESPLIT.model_copy(update={"seed": 9}))[1] == first
    grown = training_clips(manifest(development=160), RESPLIT)[1]
    before, after = {c.clip_id for c in first}, {c.clip_id for c in grown}
    assert len(after) == 21
    old = {c.clip_id for c in manifest().clips}
    assert len(before - after) <= 10 and after & old <= before | after
    moved_to_training = before - after
    moved_to_validation = (after & old) - before
    assert not (moved_to_training and moved_to_validation)  # one edge moves one way


def test_a_clip_without_caption_or_too_few_clips_are_refused() -> None:
    for split in ("development", "validation"):
        bare = Manifest("toy", "audio", (*manifest().clips, clip(split, 999, ())))
        for training in (Training(), RESPLIT):
            with pytest.raises(EarwitnessError, match=rf"toy: '{split}-999' of {split} has no"):
                training_clips(bare, training)
    with pytest.raises(EarwitnessError, match="toy: 2 clips are too few to split"):
        training_clips(manifest(1, 1), Training(validation_share=0.9))

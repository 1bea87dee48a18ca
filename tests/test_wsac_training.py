"""Text-only training through its stages: captions of one dataset, sound of another."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.evaluation import DecodingConfig
from pipeline.config.plans import CaptionerPlan, DecodingPlan
from pipeline.config.prefix import TextMemoryConfig
from pipeline.config.training import TrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predictions import caption_clips
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore, Header, write_store
from pipeline.models.captioners.prefix import Prefix
from pipeline.trained.captioner import load_captioner
from stages import decode, train_captioner
from tests.learning import until_learned
from tests.plans import captioner_plan
from tests.test_caption_stage import contents

WIDTH = 16
THINGS = ("dog barks", "bell rings", "engine idles", "bird sings", "rain falls", "child laughs")
KINDS = tuple(f"a {thing} {where}" for thing in THINGS for where in ("outside", "in a hall"))
DIRECTIONS = np.random.default_rng(0).normal(size=(len(KINDS), WIDTH))
DIRECTIONS[:, -1] = 0
GAP = 6.0  # of the sound, along the last axis


class Killed(BaseException):
    """Nothing in the pipeline catches it."""


def plan_of(
    name: str = "wsac",
    sound_dataset: str | None = None,
    dataset: str = "words",
    feature: str = "clap-sound",
    **settings: Any,
) -> CaptionerPlan:
    own = {
        "vocabulary": 200, "mapping_width": 64, "layers": 2, "heads": 2, "width": 64,
        "dropout": 0.0, "max_tokens": 16, "validation": "text", **settings,
    }  # fmt: skip
    entry = {
        "architecture": "prefix", "dataset": dataset, "features": (feature,), "text": "clap-text",
        "sound_dataset": sound_dataset,
    }  # fmt: skip
    training = TrainingConfig(
        **until_learned(8), batch=24, learning_rate=5e-3, schedule="step", warmup_epochs=1,
        step_epochs=10, average_epochs=1, validations_per_epoch=1, label_smoothing=0.0,
    )  # fmt: skip
    return captioner_plan(entry, {"prefix": own}, training, name=name)


def write_embeddings(path: Path, ids: list[str], kinds: np.ndarray, gap: float) -> None:
    draw = np.random.default_rng(sum(path.stem.encode()))
    values = DIRECTIONS[kinds] + 0.2 * draw.normal(size=(len(ids), WIDTH))
    values[:, -1] += gap
    path.parent.mkdir(parents=True, exist_ok=True)
    ones = np.ones(len(ids), np.int64)
    header = Header(path.stem, {}, "0", 0.0)
    write_store(path, header, ids, ones, WIDTH, [values.astype(np.float16)])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """``words`` has captions and no sound, two of a clip; ``heard`` has sound of the same kinds.

    Its parameter, if it has one, is the gap.
    """
    for name, sizes in (
        ("words", {"development": 72, "validation": 12}),
        ("heard", {"development": 36, "validation": 12, "evaluation": 24}),
    ):
        clips = tuple(
            Clip(
                f"{name}-{split}-{i}", split, "" if name == "words" else f"{i}.wav", 1.0,
                (KINDS[i % len(KINDS)],) * 2,
            )
            for split, count in sizes.items()
            for i in range(count)
        )  # fmt: skip
        Manifest(name, "audio", clips).save(tmp_path / f"data/corpora/{name}.json")
        kinds = np.array([int(clip.clip_id.split("-")[-1]) % len(KINDS) for clip in clips])
        folder = tmp_path / "data/features" / name
        captions = [f"{clip.clip_id}#{k}" for clip in clips for k in range(2)]
        write_embeddings(folder / "clap-text.h5", captions, kinds.repeat(2), 0.0)
        if name == "heard":
            ids = [clip.clip_id for clip in clips]
            write_embeddings(folder / "clap-sound.h5", ids, kinds, getattr(request, "param", GAP))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(root: Path, plan: CaptionerPlan) -> Path:
    plan.save(root / f"data/plans/captioners/{plan.name}/1.json")
    train_captioner.main(plan.name, 1)
    return root / "data/models/captioners" / plan.name / "1"


def decoded(root: Path, captioner: str, dataset: str, method: Any = "none") -> float:
    """The share of a split's clips whose caption is their own kind's, by the stage."""
    DecodingPlan(
        name="system", inputs={}, code={}, dataset=dataset, split="evaluation",
        captioners=(captioner,), combine="log_probs", text_memory=TextMemoryConfig(method=method),
        decoding=DecodingConfig(method="greedy", max_length=14),
    ).save(root / f"data/plans/systems/{dataset}-system.json")  # fmt: skip
    decode.main(dataset, "system")
    path = root / f"data/predictions/{dataset}/system.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return float(np.mean([r["caption"] == kind_of(r["clip_id"]) for r in rows]))


def kind_of(clip: str) -> str:
    return KINDS[int(clip.split("-")[-1]) % len(KINDS)]


@pytest.mark.parametrize("root", [2 * GAP], indirect=True)
def test_trained_on_text_alone_it_captions_sound_through_the_memory(root: Path) -> None:
    """No sound is there in training at all; then it is of another dataset."""
    assert not (root / "data/features/words/clap-sound.h5").exists()
    folder = train(root, plan_of())
    captioner = load_captioner(folder, "cpu")
    store = FeatureStore.open(root / "data/features/words/clap-text.h5")
    names = [name for name in store.ids if name.startswith("words-development")]
    given_back = caption_clips(Ensemble((captioner,)), [[store]], names, DecodingConfig(), "text")
    texts = [caption.text for caption in given_back]
    assert texts == [kind_of(name.split("#")[0]) for name in names]  # by heart
    plain, nearest, projected = (
        decoded(root, "wsac", "heard", method) for method in ("none", "nearest", "projection")
    )
    assert plain < nearest and projected >= 0.9 and nearest >= 0.9
    with pytest.raises(EarwitnessError, match=r"clap-sound.h5: no features"):
        train(root, plan_of("sound", validation="sound"))


def test_a_killed_run_ends_with_the_same_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With noise that is drawn in every step, σ from the captions, and the other dataset's mean."""
    settings: dict[str, Any] = {"noise": "captions", "shift": True, "validation": "sound"}
    settings["dropout"] = 0.1
    whole = contents(train(root, plan_of("wsac", "heard", **settings)))
    before_step, steps = Prefix.before_step, []

    def killing(self: Prefix, step: int, total: int) -> None:
        steps.append(step)
        if len(steps) in (20, 50):
            raise Killed
        before_step(self, step, total)

    (root / "data/models/captioners/wsac").rename(root / "whole")
    monkeypatch.setattr(Prefix, "before_step", killing)
    for _ in range(2):
        with pytest.raises(Killed):
            train(root, plan_of("wsac", "heard", **settings))
    resumed = contents(train(root, plan_of("wsac", "heard", **settings)))
    (*_, last) = csv.DictReader(resumed["curves.csv"].decode().splitlines())
    assert len(steps) > len(set(steps)) == int(last["step"]) > 50  # some steps were made twice
    assert resumed == whole
    assert decoded(root, "wsac", "heard") >= 0.8  # the shift takes it to the sound


def test_the_upper_bound_learns_from_pairs(root: Path) -> None:
    train(root, plan_of("bound", dataset="heard", supervised=True, validation="sound"))
    assert decoded(root, "bound", "heard") >= 0.9


def test_captions_of_held_out_captions(root: Path) -> None:
    """``features`` that name the text itself: each clip's first caption stands for its sound."""
    train(root, plan_of("text", feature="clap-text", validation="sound"))
    assert decoded(root, "text", "heard") == 1.0


def test_sound_and_text_of_different_widths_are_one_line(root: Path) -> None:
    ids = [clip.clip_id for clip in Manifest.load(root / "data/corpora/heard.json").clips]
    ones = np.ones(len(ids), np.int64)
    values = np.ones((len(ids), 10), np.float16)
    path = root / "data/features/heard/clap-sound.h5"
    write_store(path, Header("clap", {}, "0", 0.0), ids, ones, 10, [values])
    with pytest.raises(EarwitnessError, match=r"clap-sound is 10 wide, but clap-text is 16; name"):
        train(root, plan_of("wsac", "heard", validation="sound"))

"""Self-critical training as a stage, of every kind of captioner, on a toy with a better answer."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetuning_toy import KINDS, NAMES, make_data, make_plan, stores, train_base
from torch import Tensor

from pipeline.config.evaluation import DecodingConfig
from pipeline.config.plans import FinetuningPlan
from pipeline.config.training import RewardsConfig, ScstConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predictions import caption_clips
from pipeline.decoding.rollout import rollout
from pipeline.errors import EarwitnessError
from pipeline.features.bank import open_banks
from pipeline.features.store import FeatureStore
from pipeline.losses.policy import advantages, self_critical_loss, token_log_probs
from pipeline.metrics.rewards import Reward
from pipeline.tensors import Batch, Memory
from pipeline.trained.captioner import TrainedCaptioner, load_captioner
from pipeline.training.checkpoints import STATE
from pipeline.training.finetuning import finetune_captioner
from pipeline.training.self_critical import SelfCritical
from stages import finetune

ROOT = Path(__file__).resolve().parents[1]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A repository with a captioner of each kind after a little cross-entropy."""
    root = tmp_path_factory.mktemp("repository")
    manifest = make_data(root)
    for name in NAMES:
        train_base(root, manifest, name)
    return root, manifest


def tune(root: Path, manifest: Manifest, plan: FinetuningPlan, output: Path) -> Path:
    base = load_captioner(root / "data/models/captioners" / plan.captioner / "1", "cpu")
    sounds = stores(root, plan.captioner)
    finetune_captioner(plan, base, manifest, sounds, output, output.parent / "checkpoints")
    return output


def expected_reward(
    captioner: TrainedCaptioner,
    root: Path,
    clips: list[Clip],
    plan: FinetuningPlan,
    samples: int = 64,
) -> float:
    """Of a sample of each clip, in the mean over many, with draws that training never made."""
    banks = open_banks(
        stores(root, plan.captioner), [c.clip_id for c in clips], torch.device("cpu")
    )
    rows = torch.arange(len(clips))
    with torch.no_grad():
        memory = captioner.model.encode(tuple(bank.batch(rows * bank.views) for bank in banks))
    drawn = rollout(
        captioner.model.stepper(),
        memory,
        clips=rows,
        samples=samples,
        greedy=False,
        max_length=captioner.plan.model.tokens.longest - 2,
        seed=1234,
    )
    reward = Reward([clip.captions for clip in clips], plan.scst, "cpu")
    texts = captioner.tokenizer.decode(drawn.tokens.flatten(0, 1))
    owners = rows.repeat_interleave(samples).tolist()
    return float(reward(texts, owners, drawn.ended.flatten().tolist()).mean())


@pytest.mark.parametrize(
    ("base", "settings"),
    [
        ("edtc", {"baseline": "others", "dropout": True}),
        ("transformer", {"baseline": "others", "chunks": 1}),
        ("gru", {"learning_rate": 5e-4, "epochs": 12, "samples": 5, "chunks": 3}),
        ("rlssr", {"baseline": "others", "dropout": True}),
        ("cmu", {"baseline": "others"}),
        ("crnn", {"baseline": "others", "dropout": True}),
        ("prefix", {"baseline": "others"}),
    ],
)
def test_it_raises_the_expected_reward(
    trained: tuple[Path, Manifest], tmp_path: Path, base: str, settings: dict[str, Any]
) -> None:
    """On clips that it did not train on; the captioner is loaded as any other."""
    root, manifest = trained
    # the end is kept, where sampling has come to; the best greedy captions may be the first
    plan = make_plan(base, **settings, average_epochs=2, validations_per_epoch=1)
    folder = tune(root, manifest, plan, tmp_path / "tuned")
    assert list((tmp_path / "checkpoints").iterdir()) == []
    held_out = list(manifest.split("validation"))
    before = load_captioner(root / "data/models/captioners" / base / "1", "cpu")
    after = load_captioner(folder, "cpu")
    rewards = [expected_reward(each, root, held_out, plan) for each in (before, after)]
    assert rewards[1] > rewards[0] + 0.5, rewards

    assert FinetuningPlan.load(folder / "finetuning.json") == plan
    assert after.plan == before.plan.model_copy(update={"name": "tuned"})
    ids = [clip.clip_id for clip in held_out]
    captions = caption_clips(
        Ensemble((after,)), [stores(root, base)], ids, DecodingConfig(beams=2), "tuned"
    )
    kinds = [KINDS[int(name.split("-")[1]) % len(KINDS)] for name in ids]
    named = [kind in caption.text for kind, caption in zip(kinds, captions, strict=True)]
    assert np.mean(named) >= 0.9
    with (folder / "curves.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert ("baseline_reward" in rows[0]) == (plan.scst.baseline == "greedy")
    assert float(rows[-1]["reward"]) > float(rows[0]["reward"])
    assert all(1 < float(row["length"]) <= before.plan.model.tokens.longest - 2 for row in rows)


def make_step(
    trained: tuple[Path, Manifest], thread: ThreadPoolExecutor, base: str, **scst: Any
) -> tuple[SelfCritical, Batch, TrainedCaptioner, Reward]:
    root, manifest = trained
    plan = make_plan(base, **scst)
    captioner = load_captioner(root / "data/models/captioners" / base / "1", "cpu")
    clips = manifest.split("development")
    cpu = torch.device("cpu")
    banks = open_banks(stores(root, base), [clip.clip_id for clip in clips], cpu)
    rows = torch.tensor([7, 30, 2, 11, 56, 23, 40])
    features = tuple(bank.batch(rows * bank.views) for bank in banks)
    reward = Reward([clip.captions for clip in clips], plan.scst, "cpu")
    step = SelfCritical(plan, captioner, reward, thread, cpu)
    step.before_step(5, 10)
    return step, Batch(features, torch.zeros(7, 1), None, rows), captioner, reward


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_hand(batch: Batch, captioner: TrainedCaptioner, reward: Reward, scst: ScstConfig) -> Tensor:
    """The loss of the weights as they are now: sample, score, then each caption on its own."""
    model, tokenizer = captioner.model.eval(), captioner.tokenizer
    with torch.no_grad():
        memory = model.encode(batch.features)
    drawn = rollout(
        model.stepper(), memory, clips=batch.clips, samples=scst.samples, greedy=True,
        max_length=captioner.plan.model.tokens.longest - 2, seed=1, step=5,
    )  # fmt: skip
    rewards = torch.zeros(drawn.ended.shape)
    log_probs = torch.zeros(drawn.chosen.shape)[:, :-1]
    memory = model.encode(batch.features)
    for at, clip in enumerate(batch.clips.tolist()):
        for k, row in enumerate(drawn.tokens[at]):
            (text,) = tokenizer.decode(row[None])
            rewards[at, k] = float(reward([text], [clip], [bool(drawn.ended[at, k])])[0])
            if k < scst.samples:
                one = Memory(memory.values[at : at + 1], memory.mask[at : at + 1])
                logits = model.logits(one, row[None, :-1])
                log_probs[at, k] = token_log_probs(
                    logits, row[None, 1:], begin=tokenizer.begin, pad=tokenizer.pad
                )[0]
    gain = advantages(rewards, "greedy")
    return self_critical_loss(log_probs, drawn.chosen[:, :-1], gain)


@pytest.mark.parametrize("base", NAMES)
@pytest.mark.parametrize("chunks", [1, 3])
def test_a_step_equals_its_definition(
    trained: tuple[Path, Manifest], base: str, chunks: int
) -> None:
    """However it is cut, and with the weights of this step: they were changed just before."""
    with ThreadPoolExecutor(1) as thread:
        step, batch, captioner, reward = make_step(trained, thread, base, chunks=chunks)
        with torch.no_grad():
            for parameter in captioner.model.parameters():
                parameter.add_(0.1 * parameter.std(correction=0) * torch.randn_like(parameter))
        losses = step.loss(batch)
        losses.total.backward()
        found = gradients(captioner.model)
        captioner.model.zero_grad()
        expected = by_hand(batch, captioner, reward, step.scst)
        expected.backward()
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)
    assert abs(expected.item()) > 1e-4
    plain = gradients(captioner.model)
    assert plain.keys() == found.keys()
    for name, gradient in plain.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("base", NAMES)
def test_autocast_keeps_the_gradients(trained: tuple[Path, Manifest], base: str) -> None:
    """Casts of weights made while sampling have none, and must not be used again."""
    with ThreadPoolExecutor(1) as thread:
        step, batch, captioner, _ = make_step(trained, thread, base, samples=8)
        found = []
        for bf16 in (False, True):
            captioner.model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                losses = step.loss(batch)
            losses.total.backward()
            found.append(gradients(captioner.model))
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[1].items():
        assert bool(gradient.any()) == bool(found[0][name].any()), name


def test_dropout_is_in_the_pass_with_gradients_alone(trained: tuple[Path, Manifest]) -> None:
    with ThreadPoolExecutor(1) as thread:
        losses = []
        for dropout in (False, True):
            step, batch, captioner, _ = make_step(
                trained, thread, "transformer", baseline="others", dropout=dropout
            )
            losses.append(step.loss(batch))
            assert captioner.model.training == dropout
    assert float(losses[0].reward) == float(losses[1].reward)
    assert float(losses[0].length) == float(losses[1].length)
    assert losses[0].total.item() != losses[1].total.item()


def stage(root: Path, name: str) -> subprocess.Popen[str]:
    environment = {
        **{key: value for key, value in os.environ.items() if key != "DVC_ROOT"},
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "stages.finetune", name, "1"],
        cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_killed_run_ends_with_the_same_bytes(
    trained: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """With dropout, views and checkpoints in the midst of an epoch."""
    root, _ = trained
    models = root / "data/models/captioners"
    plan = make_plan("edtc", "killed", epochs=5, baseline="others", dropout=True)
    plan.save(root / "data/plans/finetuned/killed/1.json")
    process, began = stage(root, "killed"), time.monotonic()
    seen: set[int] = set()
    while process.poll() is None and len(seen) < 3 and time.monotonic() - began < 60:
        for state in root.glob(f"data/checkpoints/captioner-killed-*/{STATE}"):
            with suppress(FileNotFoundError):
                seen.add(state.stat().st_mtime_ns)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(seen) == 3 and not (models / "killed").exists()

    monkeypatch.chdir(root)
    finetune.main("killed", 1)
    assert "killed: validation CIDEr-D " in capsys.readouterr().out
    resumed = contents(models / "killed/1")
    finetune.main("killed", 1)  # from the start: its checkpoints are gone
    assert contents(models / "killed/1") == resumed
    assert set(resumed) == {*contents(models / "edtc/1"), "finetuning.json"}


class Killed(BaseException):
    """Nothing in the pipeline catches it."""


@pytest.mark.parametrize("base", ["rlssr", "cmu", "crnn", "prefix"])
def test_every_kind_resumes_to_the_same_bytes(
    trained: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    """Killed twice, in an epoch's midst; with dropout, and RLSSR's masks drawn in every step."""
    root, manifest = trained
    plan = make_plan(base, epochs=3, baseline="others", dropout=True)
    whole = contents(tune(root, manifest, plan, tmp_path / "whole"))
    weights = (root / "data/models/captioners" / base / "1/model.safetensors").read_bytes()
    assert whole["model.safetensors"] != weights
    before_step, steps = SelfCritical.before_step, []

    def killing(self: SelfCritical, step: int, total: int) -> None:
        steps.append(step)
        if len(steps) in (5, 8):
            raise Killed
        before_step(self, step, total)

    monkeypatch.setattr(SelfCritical, "before_step", killing)
    for _ in range(2):
        with pytest.raises(Killed):
            tune(root, manifest, plan, tmp_path / "resumed")
    assert contents(tune(root, manifest, plan, tmp_path / "resumed")) == whole
    assert len(steps) > len(set(steps))  # some were made twice


def test_errors_of_the_user(trained: tuple[Path, Manifest], tmp_path: Path) -> None:
    """Each in one line, before anything is trained."""
    root, manifest = trained
    base = load_captioner(root / "data/models/captioners/edtc/1", "cpu")
    sounds = stores(root)

    def refused(plan: FinetuningPlan, features: list[FeatureStore], match: str) -> None:
        with pytest.raises(EarwitnessError, match=match) as caught:
            finetune_captioner(plan, base, manifest, features, tmp_path / "o", tmp_path / "c")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "o").exists() and not list(tmp_path.glob(f"c/*/{STATE}"))

    refused(make_plan(), sounds[::-1], r"two.h5: 20 wide, but captioner edtc was trained on 12")
    other = make_plan().model_copy(update={"features": ("two", "one")})
    refused(other, sounds, r"edtc reads one, two, the plan names two, one; run `dvc repro plan`")
    refused(make_plan(validation_share=0.2), sounds, r"trained with validation_share null; set")
    sbert = {"rewards": RewardsConfig(sbert=1.0), "sbert": "no/such/folder"}
    refused(make_plan(**sbert), sounds, r"no/such/folder")
    code = stage(root, "none")
    _, err = code.communicate()
    assert code.returncode == 1 and err.count("\n") == 1 and "run `dvc repro plan`" in err


def test_a_checkpoint_of_another_base_is_not_used(
    trained: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan does not say what the base's weights are; the checkpoint does."""
    root, manifest = trained
    plan = make_plan(epochs=2)
    base = load_captioner(root / "data/models/captioners/edtc/1", "cpu")

    def die(*arguments: Any) -> None:
        if arguments[1] == 5:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(SelfCritical, "before_step", lambda *a: die(*a))
        finetune_captioner(
            plan, base, manifest, stores(root), tmp_path / "o", tmp_path / "checkpoints"
        )
    (left,) = tmp_path.glob(f"checkpoints/*/{STATE}")
    other = load_captioner(root / "data/models/captioners/edtc/1", "cpu")
    with torch.no_grad():
        next(other.model.parameters()).mul_(1.01)
    progress = finetune_captioner(
        plan, other, manifest, stores(root), tmp_path / "o", tmp_path / "checkpoints"
    )
    assert [row["step"] for row in progress.curves] == [2, 3, 5, 6] and not left.exists()

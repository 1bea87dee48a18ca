"""Trainings on a GPU, as a user has them there: bf16, compiled, fused optimizers. Skipped without.

What CUDA adds in another order differs in the last digits, so losses are compared, and not bytes.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from finetuning_toy import NAMES, make_base, make_data, make_plan, stores

from pipeline.config.hardware import HardwareConfig
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import FeatureStore
from pipeline.trained.captioner import load_captioner
from pipeline.training import loop
from pipeline.training.cross_entropy import train_captioner
from pipeline.training.finetuning import finetune_captioner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
CPU, CUDA = HardwareConfig(device="cpu"), HardwareConfig(device="cuda")
EPOCHS = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("data")
    return root, make_data(root)


def train(name: str, data: tuple[Path, Manifest], hardware: HardwareConfig, folder: Path) -> Path:
    root, manifest = data
    base = make_base(name)
    training = base.training.model_copy(update={"epochs": EPOCHS})
    plan = base.model_copy(update={"hardware": hardware, "training": training})
    sounds = stores(root, name) if plan.model.reads.sound else []
    text = FeatureStore.open(root / f"data/features/toy/{plan.text}.h5") if plan.text else None
    output = folder / hardware.device
    train_captioner(plan, manifest, sounds, text, output, folder / "checkpoints")
    return output


def curve(folder: Path, name: str) -> list[float]:
    with (folder / "curves.csv").open(encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_as_on_the_cpu(
    name: str, data: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after its first checkpoint, and gone on with: the optimizer is a fused one there."""
    expected = curve(train(name, data, CPU, tmp_path), "total")
    validate, stopped = loop._Run.validate, []

    def stopping(run: loop._Run, progress: loop.Progress) -> bool:
        if progress.scores and not stopped:
            stopped.append(progress.step)
            raise KeyboardInterrupt
        return validate(run, progress)

    monkeypatch.setattr(loop._Run, "validate", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(name, data, CUDA, tmp_path)
    found = curve(train(name, data, CUDA, tmp_path), "total")
    assert len(stopped) == 1 and len(found) == len(expected)
    assert found == pytest.approx(expected, rel=0.1)  # dropout draws other values


@pytest.mark.parametrize("name", NAMES)
def test_self_critical_training_learns(
    name: str, data: tuple[Path, Manifest], tmp_path: Path
) -> None:
    root, manifest = data
    base = load_captioner(train(name, data, CUDA, tmp_path), "cuda")
    plan = make_plan(name, epochs=4).model_copy(update={"hardware": CUDA})
    output = tmp_path / "tuned"
    features = stores(root, name) if base.plan.model.reads.sound else []
    finetune_captioner(plan, base, manifest, features, output, tmp_path / "checkpoints")
    reward = curve(output, "reward")
    assert reward[-1] > reward[0]

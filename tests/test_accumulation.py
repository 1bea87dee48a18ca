"""Several batches in one optimizer step are one large batch; a killed run ends as a whole one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.config.hardware import HardwareConfig
from pipeline.config.training import TrainingConfig
from pipeline.training.checkpoints import Checkpoints, Progress
from pipeline.training.loop import Task, curves_csv, fit
from pipeline.training.optimizers import build_optimizer
from pipeline.training.schedules import build_schedule
from tests.test_training import Line, Losses

SETTINGS = TrainingConfig(
    epochs=5, batch=4, accumulate=4, learning_rate=0.1, schedule="cosine", warmup_steps=2,
    validations_per_epoch=2, patience_epochs=100, gradient_clip=0.5,
)  # fmt: skip


class Killed(BaseException):
    """Nothing in the pipeline catches it."""


class Batches:
    """160 points an epoch, ``size`` at a time; of 160 + ``more``, the last batches hold those."""

    def __init__(self, size: int, more: int = 0) -> None:
        self.size, self.points = size, 160 + more
        self.steps = -(-self.points // size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        x = torch.randn(self.points, generator=torch.Generator().manual_seed(epoch))
        yield from torch.stack([x, 3 * x - 1], -1).split(self.size)[start:]


def run(
    folder: Path, training: TrainingConfig, batches: Batches, model: Line | None = None
) -> tuple[Line, Progress]:
    model = model or Line()

    def validate() -> dict[str, float]:
        return {"score": -abs(model.weight.item() - 3)}

    task = Task(
        model=model,
        batches=batches,
        loss=model.loss,
        validate=validate,
        score="score",
        before_step=model.before_step,
    )
    with Checkpoints(folder, "line", "ab") as saved:
        return model, fit(task, training, HardwareConfig(), saved, "line")


def test_four_batches_are_one_of_four_times_the_size(tmp_path: Path) -> None:
    """Weights, steps, rates, validations and curves."""
    model, progress = run(tmp_path / "four", SETTINGS, Batches(4))
    one = SETTINGS.model_copy(update={"accumulate": 1, "batch": 16})
    whole, expected = run(tmp_path / "one", one, Batches(16))
    assert model.told == whole.told == [(step, 50) for step in range(50)]
    assert progress.step == 50 and len(progress.curves) == 10
    torch.testing.assert_close(model.weight, whole.weight)
    torch.testing.assert_close(model.bias, whole.bias)
    rows = [list(csv.DictReader(io.StringIO(curves_csv(p.curves)))) for p in (progress, expected)]
    for found, wanted in zip(*rows, strict=True):
        assert found.keys() == wanted.keys()
        for name, value in found.items():
            assert float(value) == pytest.approx(float(wanted[name]), rel=1e-4), name


def test_the_last_step_of_an_epoch_takes_what_is_left(tmp_path: Path) -> None:
    """160 + 20 points: 45 batches of 4, so the twelfth step has one; by torch's own optimizer."""
    batches = Batches(4, more=20)
    training = SETTINGS.model_copy(update={"epochs": 1, "validations_per_epoch": 1})
    model, progress = run(tmp_path, training, batches)
    assert progress.step == 12
    plain = Line()
    optimizer = build_optimizer(plain, training)
    schedule = build_schedule(training, batches.steps)
    parts = list(batches.epoch(0))
    for step in range(12):
        losses = [plain.loss(part).total for part in parts[4 * step : 4 * step + 4]]
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * schedule(step, [])
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
    torch.testing.assert_close(model.weight, plain.weight)
    torch.testing.assert_close(model.bias, plain.bias)


def test_killed_within_a_step_and_again(tmp_path: Path) -> None:
    """On to the same bits, with steps that were begun and not ended."""
    batches, seen = Batches(4, more=20), []
    whole, expected = run(tmp_path / "whole", SETTINGS, batches)

    class Dies(Line):
        def loss(self, batch: Tensor) -> Losses:
            seen.append(len(batch))
            if len(seen) in (34, 150):
                raise Killed
            return super().loss(batch)

    for _ in range(2):
        with pytest.raises(Killed):
            run(tmp_path / "killed", SETTINGS, batches, Dies())
    model, progress = run(tmp_path / "killed", SETTINGS, batches, Dies())
    assert len(seen) > batches.steps * SETTINGS.epochs
    assert torch.equal(model.weight, whole.weight) and torch.equal(model.bias, whole.bias)
    assert curves_csv(progress.curves) == curves_csv(expected.curves)

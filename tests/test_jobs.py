"""What every training job promises: seed, threads, precision, and all or nothing at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuning_toy import make_base, make_data, stores

from pipeline.config.evaluation import DecodingConfig
from pipeline.config.hardware import HardwareConfig
from pipeline.config.plans import TrainingPlan
from pipeline.config.training import OptimisationConfig
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predictions import caption_clips
from pipeline.models.captioners.seq2seq import Seq2Seq
from pipeline.tensors import Padded
from pipeline.trained.captioner import load_captioner
from pipeline.training.checkpoints import STATE, Progress
from pipeline.training.cross_entropy import train_captioner
from pipeline.training.jobs import Save, run_job
from pipeline.training.loop import Task
from tests.test_training import Line, Points

TRAINING = OptimisationConfig(epochs=2, learning_rate=0.1, validations_per_epoch=1)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


class Job:
    """A line that begins where its seed says, and what it saw on the way."""

    def __init__(self, root: Path, fails: bool = False) -> None:
        self.root, self.fails = root, fails
        self.losses = 0
        self.seen: set[tuple[int, bool]] = set()  # threads, and whether kernels are deterministic

    def look(self) -> None:
        self.seen.add((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))

    def prepare(self, device: torch.device) -> tuple[Task[Any], Save]:
        self.look()
        model = Line()
        torch.nn.init.normal_(model.weight)

        def loss(batch: torch.Tensor) -> Any:
            self.look()
            self.losses += 1
            return model.loss(batch)

        def save(folder: Path, done: Progress) -> None:
            (folder / "line").write_text(f"{model.weight.item()} {done.step}")
            if self.fails:
                raise KeyboardInterrupt

        task = Task(
            model=model,
            batches=Points(),
            loss=loss,
            validate=lambda: {"score": -abs(model.weight.item() - 3)},
            score="score",
        )
        return task, save

    def run(self, seed: int = 1, start: bytes = b"", **hardware: Any) -> str:
        plan = TrainingPlan(
            name="line", inputs={}, code={}, seed=seed, hardware=HardwareConfig(**hardware)
        )
        folders = {"output": self.root / "line", "checkpoints": self.root / "checkpoints"}
        run_job("test", plan, TRAINING, self.prepare, start=start, **folders)
        return (self.root / "line/line").read_text()


def test_threads_are_the_plans_before_anything_is_built(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.run(device="cpu", threads=3)
    assert job.seen == {(3, True)}
    assert not torch.are_deterministic_algorithms_enabled()
    left = Job(tmp_path)
    torch.set_num_threads(2)
    left.run(device="cpu")
    assert left.seen == {(2, True)}


def test_a_small_model_takes_one_thread_where_nobody_said_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(at_least: int | None, **hardware: Any) -> set[tuple[int, bool]]:
        monkeypatch.setattr("pipeline.threads._meeting", (tmp_path / "meeting", at_least))
        torch.set_num_threads(2)
        job = Job(tmp_path)
        job.run(device="cpu", **hardware)
        return job.seen

    monkeypatch.setattr("pipeline.threads._given", "auto")
    assert seen(1) == {(2, True), (1, True)}  # while it is built, and while it is trained
    assert seen(1, threads=3) == {(3, True)}
    assert seen(None) == {(2, True)}  # OMP_NUM_THREADS=2, say
    monkeypatch.setattr("pipeline.training.jobs.SMALL", 1)
    assert seen(1) == {(2, True)}


def test_the_built_model_depends_on_the_plans_seed(tmp_path: Path) -> None:
    first, again, other = (Job(tmp_path).run(seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_killed_save_leaves_nothing_and_is_repeated(tmp_path: Path) -> None:
    whole = Job(tmp_path / "whole").run()
    with pytest.raises(KeyboardInterrupt):
        Job(tmp_path, fails=True).run()
    assert not (tmp_path / "line").exists()
    again = Job(tmp_path)
    assert again.run() == whole
    assert again.losses == 0  # from its last checkpoint
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_another_seed_leaves_a_killed_one_its_checkpoint(tmp_path: Path) -> None:
    """As where several seeds run at once, are killed, and begin again in whatever order."""
    for seed in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            Job(tmp_path, fails=True).run(seed)
    again = Job(tmp_path)
    again.run(1)
    again.run(2)
    assert again.losses == 0  # both from their last checkpoints
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_another_plan_or_start_uses_no_checkpoint(tmp_path: Path) -> None:
    for changes in ({"seed": 2}, {"start": b"other weights"}, {"precision": "bfloat16"}):
        with pytest.raises(KeyboardInterrupt):
            Job(tmp_path, fails=True).run()
        assert list(tmp_path.glob(f"checkpoints/*/{STATE}"))
        other = Job(tmp_path)
        other.run(**changes)
        assert other.losses == TRAINING.epochs * Points.steps


def test_one_captioner_has_its_own_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training and in what it captions afterwards, beside one of another precision."""
    manifest = make_data(tmp_path)
    seen: set[tuple[int, bool]] = set()  # the seed tells the captioners apart
    encode = Seq2Seq.encode

    def watched(self: Seq2Seq, features: tuple[Padded, ...]) -> Any:
        seen.add((self.learning.seed, torch.is_autocast_enabled("cpu")))
        return encode(self, features)

    monkeypatch.setattr(Seq2Seq, "encode", watched)
    for seed, precision in enumerate(("float32", "bfloat16")):
        base = make_base("gru")
        training = base.training.model_copy(update={"epochs": 1})
        hardware = HardwareConfig(device="cpu", precision=precision)
        changes = {"name": precision, "hardware": hardware, "training": training, "seed": seed}
        plan = base.model_copy(update=changes)
        output = tmp_path / precision
        train_captioner(
            plan, manifest, stores(tmp_path, "gru"), None, output, tmp_path / "checkpoints"
        )
    expected = {(0, False), (1, True)}
    assert seen == expected
    seen.clear()
    members = tuple(load_captioner(tmp_path / name, "cpu") for name in ("float32", "bfloat16"))
    clips = [clip.clip_id for clip in manifest.split("validation")]
    sounds = [stores(tmp_path, "gru")] * 2
    caption_clips(Ensemble(members), sounds, clips, DecodingConfig(max_length=8), "both")
    assert seen == expected

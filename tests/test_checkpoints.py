"""A training that is killed with -9 and started again ends with the bits of one that was not."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.config.hardware import HardwareConfig
from pipeline.config.training import TrainingConfig
from pipeline.device import deterministic
from pipeline.errors import EarwitnessError
from pipeline.files import replacing_folder
from pipeline.lock import exclusive
from pipeline.state_dicts import load_weights, read_weights, save_weights, weights
from pipeline.training.checkpoints import STATE, Checkpoints, Progress
from pipeline.training.loop import Task, curves_csv, fit

WORDS, WIDTH, ROWS = 11, 8, 64
TRAINING = TrainingConfig(
    epochs=25, batch=8, learning_rate=1e-2, validations_per_epoch=3, patience_epochs=100
)


class TinyLosses(NamedTuple):
    total: Tensor
    cross_entropy: Tensor
    contrastive: Tensor | None


class Tiny(nn.Module):
    """Random draws, running statistics, a tied tensor and a momentum: all that must be kept."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)
        self.drop = nn.Dropout(0.3)
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.out = nn.Linear(WIDTH, WORDS)
        self.out.weight = self.embed.weight
        self.slow = nn.Linear(WIDTH, WIDTH)
        self.slow.requires_grad_(False)
        self.fast = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        return self.out(self.drop(self.norm(self.fast(x) + self.slow(x)) + self.embed(words)))

    def loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> TinyLosses:
        x, words, targets = batch
        value = nn.functional.cross_entropy(self.forward(x, words), targets)
        return TinyLosses(value, value, None)

    def after_step(self) -> None:
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.fast.parameters(), strict=True):
                slow.lerp_(fast, 0.05)


class TinyBatches:
    steps = ROWS // 8

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(ROWS, WIDTH, generator=generator)
        self.words = torch.randint(WORDS, (ROWS,), generator=generator)
        self.targets = (self.words * 3 + self.x[:, 0].sign().long()) % WORDS

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(8)[start:]:
            yield self.x[rows], self.words[rows], self.targets[rows]


def train(
    folder: Path,
    seconds_a_step: float = 0.0,
    started: Event | None = None,
    training: TrainingConfig = TRAINING,
) -> Progress:
    """One run of the tiny job; the final weights and curves lie in ``folder`` when it ends."""
    torch.manual_seed(5)
    model, batches = Tiny(), TinyBatches()

    def loss(batch: tuple[Tensor, Tensor, Tensor]) -> TinyLosses:
        if started is not None:
            started.set()
        time.sleep(seconds_a_step)
        return model.loss(batch)

    def validate() -> dict[str, float]:
        loss = model.loss((batches.x, batches.words, batches.targets))
        return {"score": -float(loss.total)}

    task = Task(
        model=model,
        batches=batches,
        loss=loss,
        validate=validate,
        score="score",
        after_step=model.after_step,
    )
    with (
        Checkpoints(folder / "checkpoints", "tiny", "0a1b") as checkpoints,
        deterministic(torch.device("cpu")),
    ):
        progress = fit(task, training, HardwareConfig(), checkpoints, "tiny")
        save_weights(weights(model), folder / "model.safetensors")
        (folder / "curves.csv").write_text(curves_csv(progress.curves))
        checkpoints.remove()
    return progress


def outputs(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model.safetensors").read_bytes(), (folder / "curves.csv").read_bytes()


def test_killed_twenty_times_ends_with_the_same_bits(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "pytest", "pipeline.training.loop"])
    interrupted = tmp_path / "interrupted"
    state = interrupted / "checkpoints" / "tiny-0a1b" / STATE
    draw = random.Random(3)
    kills, seen = 0, set()
    while not (interrupted / "curves.csv").exists():
        started = context.Event()
        pause = 0.02 if kills < 20 else 0.0
        process = context.Process(target=train, args=(interrupted, pause, started))
        process.start()
        assert started.wait(60)
        process.join(draw.uniform(0.02, 0.25) if kills < 20 else 60)
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        if state.exists():
            seen.add(state.stat().st_mtime_ns)
        assert kills <= 20, "does not end"
    assert kills == 20
    assert len(seen) > 3  # it went on from several different checkpoints
    assert outputs(interrupted) == outputs(tmp_path / "whole")
    assert list((interrupted / "checkpoints").iterdir()) == []  # neither checkpoint nor lock


def test_killed_inside_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that dies after the best weights and before the state goes on from the one before."""
    train(tmp_path / "whole")
    real, calls = save_file, []

    def dies(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None) -> None:
        calls.append(path)
        if len(calls) == 8:
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt
        real(tensors, path, metadata)

    monkeypatch.setattr("pipeline.state_dicts.save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "again")
    monkeypatch.undo()
    assert "state" in calls[-1].name
    train(tmp_path / "again")
    assert outputs(tmp_path / "again") == outputs(tmp_path / "whole")


def test_killed_inside_any_save_the_mean_of_epochs_has_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of best weights, of an epoch's, or of the state: each file in turn is left half written."""
    training = TRAINING.model_copy(update={"epochs": 12, "average_epochs": 3})
    train(tmp_path / "whole", training=training)
    train(tmp_path / "best", training=TRAINING.model_copy(update={"epochs": 12}))
    assert outputs(tmp_path / "whole") != outputs(tmp_path / "best")
    killed = []
    for number in range(1, 11):  # one validation writes two or three files
        calls = []

        def dies(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None) -> None:
            calls.append(path)  # noqa: B023
            if len(calls) == number:  # noqa: B023
                Path(path).write_bytes(b"half")
                killed.append(Path(path).name)
                raise KeyboardInterrupt
            save_file(tensors, path, metadata)

        monkeypatch.setattr("pipeline.state_dicts.save_file", dies)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "again", training=training)
        monkeypatch.undo()
    assert {kind for kind in ("best", "epoch", "state") if any(kind in n for n in killed)} == {
        "best", "epoch", "state",
    }  # fmt: skip
    train(tmp_path / "again", training=training)
    assert outputs(tmp_path / "again") == outputs(tmp_path / "whole")


def test_the_mean_of_integers_is_the_last(tmp_path: Path) -> None:
    """Running statistics are averaged; the count of batches beside them is no mean."""
    model = Tiny()
    with Checkpoints(tmp_path, "tiny", "0a1b") as checkpoints:
        means = []
        for step in (1, 2, 3):
            model.norm(torch.randn(8, WIDTH))
            means.append(model.norm.running_mean.clone())
            checkpoints.keep_epoch(model, Progress(step=step), last=2)
        average = checkpoints.average()
    assert int(average["norm.num_batches_tracked"]) == 3
    torch.testing.assert_close(average["norm.running_mean"], (means[1] + means[2]) / 2)
    assert average.keys() == weights(model).keys()


def test_broken_checkpoint_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "tiny-0a1b"
    folder.mkdir(parents=True)
    (folder / STATE).write_bytes(b"\x80\x04pickle")
    with pytest.raises(EarwitnessError, match=r"state.safetensors: not safetensors .*delete"):
        train(tmp_path)


def test_older_checkpoints_of_the_job_are_removed_and_others_kept(tmp_path: Path) -> None:
    for name in ("edtc-00ff", "edtc-1234", "edtc-big-00ff", "other-00ff"):
        (tmp_path / name).mkdir()
        (tmp_path / name / STATE).write_bytes(b"")
    with exclusive(tmp_path / "edtc-1234.lock"), Checkpoints(tmp_path, "edtc", "abcd"):
        there = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    # edtc-1234 is running; edtc-big is another job
    assert there == {"edtc-1234", "edtc-abcd", "edtc-big-00ff", "other-00ff"}


def test_tied_tensors_are_written_once_and_restored(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, other = Tiny(), Tiny()
    save_weights(weights(model), tmp_path / "model.safetensors")
    stored = load_file(tmp_path / "model.safetensors")
    assert "embed.weight" in stored and "out.weight" not in stored
    load_weights(other, stored, "x")
    assert other.out.weight is other.embed.weight
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_an_optimizers_state_lies_in_memory_as_its_parameters_do(tmp_path: Path) -> None:
    """Else CUDA's fused optimizers refuse a CNN's, which is stored channels last."""
    model = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    with Checkpoints(tmp_path, "job", "0") as checkpoints:
        checkpoints.save(model, optimizer, Progress(step=1), improved=True)
        fresh = torch.optim.Adam(model.parameters())
        checkpoints.restore(model, fresh)
    for key in ("exp_avg", "exp_avg_sq"):
        kept, restored = (o.state[model.weight][key] for o in (optimizer, fresh))
        assert torch.equal(restored, kept)
        assert restored.stride() == model.weight.stride() != kept.contiguous().stride()


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    model = Tiny()
    tensors = {name: tensor.clone() for name, tensor in weights(model).items()}
    with pytest.raises(EarwitnessError, match=r"fast\.bias is not in the file"):
        load_weights(model, {k: v for k, v in tensors.items() if k != "fast.bias"}, "m")
    with pytest.raises(EarwitnessError, match="extra is not in the model"):
        load_weights(model, {**tensors, "extra": torch.ones(1)}, "m")
    with pytest.raises(EarwitnessError, match=r"fast.bias is \(3,\), the model's \(8,\)"):
        load_weights(model, {**tensors, "fast.bias": torch.ones(3)}, "m")


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(EarwitnessError, match="not safetensors"):
        read_weights(path, "train it again")
    with pytest.raises(EarwitnessError, match="not there; train it again"):
        read_weights(tmp_path / "none", "train it again")


def hold(path: Path, ready: Event) -> None:
    with exclusive(path):
        ready.set()
        time.sleep(60)


def test_a_lock_is_refused_while_held_and_free_after_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "job.lock"
    context = multiprocessing.get_context("forkserver")
    ready = context.Event()
    holder = context.Process(target=hold, args=(path, ready))
    holder.start()
    assert ready.wait(60)
    refused = pytest.raises(EarwitnessError, match=rf"running already \(process {holder.pid}\)")
    with refused, exclusive(path):
        pass
    holder.kill()
    holder.join()
    assert path.exists()  # left behind, and no hindrance
    with exclusive(path), pytest.raises(EarwitnessError), exclusive(path):
        pass
    assert not path.exists()


def test_progress_counts_from_the_first_of_equal_bests() -> None:
    assert Progress().since_best == 0
    assert Progress(scores=[1.0, 3.0, 3.0, 2.0]).since_best == 2
    assert Progress(scores=[1.0]).since_best == 0
    assert json.loads(json.dumps([0.1 + 0.2])) == [0.1 + 0.2]  # scores survive JSON to the bit


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with replacing_folder(path) as folder:
        (folder / "a").write_text("old")
    (tmp_path / ".model~killed").mkdir()
    (tmp_path / ".model.big~running").mkdir()
    with pytest.raises(KeyboardInterrupt), replacing_folder(path) as folder:
        (folder / "b").write_text("half")
        assert (path / "a").read_text() == "old"
        raise KeyboardInterrupt
    assert [file.name for file in path.iterdir()] == ["a"]
    with replacing_folder(path) as folder:
        (folder / "c").write_text("new")
    assert [file.name for file in path.iterdir()] == ["c"]
    assert {entry.name for entry in tmp_path.iterdir()} == {"model", ".model.big~running"}


# --- checkpoints that were altered --------------------------------------------------------------


def saved_state(folder: Path) -> tuple[Path, Tiny, torch.optim.Optimizer]:
    """The state of a model after one step."""
    model = Tiny()
    optimizer = torch.optim.AdamW(model.parameters())
    batch = next(TinyBatches().epoch(0))
    model.loss(batch).total.backward()
    optimizer.step()
    with Checkpoints(folder, "tiny", "0a") as checkpoints:
        checkpoints.save(model, optimizer, Progress(3, [0.5], [{"loss": 1.0}]), improved=True)
    return folder / "tiny-0a" / STATE, model, optimizer


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("best", "../../secret.safetensors"),  # outside of the job's folder
        ("best", "state.safetensors"),
        ("best", 3),
        ("step", "3"),
        ("scores", ["x"]),
        ("scores", 5),
        ("curves", [["loss", 1.0]]),
        ("curves", [{"loss": None}]),
        ("more", 1),
    ],
)
def test_altered_progress_is_one_line(tmp_path: Path, key: str, value: object) -> None:
    path, model, optimizer = saved_state(tmp_path)
    progress = {"step": 3, "scores": [0.5], "curves": [], "best": None, key: value}
    save_weights(load_file(path), path, {"progress": json.dumps(progress)})
    reason = r"not a checkpoint .*; delete .*"
    with (
        Checkpoints(tmp_path, "tiny", "0a") as checkpoints,
        pytest.raises(EarwitnessError, match=reason) as raised,
    ):
        checkpoints.restore(model, optimizer)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer.0.exp_avg", torch.zeros(3)),  # of another shape than its parameter
        ("optimizer.999.exp_avg", torch.zeros(3)),
        ("optimizer.x.exp_avg", torch.zeros(3)),
        ("optimizer.x", torch.zeros(3)),
        ("random.cpu", torch.zeros(3)),
        ("random.cpu", torch.zeros(5056, dtype=torch.uint8)[:7]),
        ("model.fast.bias", torch.full((WIDTH,), float("nan"))),
        ("model.fast.bias", torch.full((WIDTH,), float("inf"))),
        ("model.fast.bias", torch.zeros(WIDTH, dtype=torch.int32)),
    ],
)
def test_an_altered_tensor_is_one_line(tmp_path: Path, name: str, value: Tensor) -> None:
    path, model, optimizer = saved_state(tmp_path)
    progress = {"progress": json.dumps({"step": 3, "scores": [], "curves": [], "best": None})}
    save_weights({**load_file(path), name: value}, path, progress)
    with (
        Checkpoints(tmp_path, "tiny", "0a") as checkpoints,
        pytest.raises(EarwitnessError, match=r"state\.safetensors: ") as raised,
    ):
        checkpoints.restore(model, optimizer)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_what_is_no_file_of_weights_is_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.safetensors"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path.name)
    with pytest.raises(EarwitnessError, match=r"x\.safetensors: .*; train again"):
        read_weights(path, "train again")

"""Trainings in TensorBoard, MLflow and Weights & Biases, read back by each one's own reader."""

from __future__ import annotations

import importlib.util
import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from pipeline.config.hardware import HardwareConfig
from pipeline.config.params import parse_params
from pipeline.config.plans import TrainingPlan
from pipeline.config.training import OptimisationConfig
from pipeline.errors import EarwitnessError
from pipeline.planning import PHASES, Context
from pipeline.planning.code import code_digests
from pipeline.tracking.registry import MODULES, Tracking
from pipeline.tracking.run import RunName
from pipeline.tracking.tensorboard_run import TensorboardRun
from pipeline.training.checkpoints import Checkpoints, Progress
from pipeline.training.jobs import Save, run_job
from pipeline.training.loop import Task
from tests.conftest import REPOSITORY
from tests.test_training import Line, Points
from tests.tiny import TINY

TRAINING = OptimisationConfig(
    epochs=4, learning_rate=0.1, validations_per_epoch=1, average_epochs=2, patience_epochs=9
)
Curves = dict[str, list[tuple[int, float]]]  # metric → (step, value)
trackers = pytest.mark.parametrize("tracker", [*MODULES])


class Stopped(BaseException):
    """As a kill does, it passes every ``except Exception``."""


def train(root: Path, tracking: Tracking | None, seed: int = 1) -> tuple[str, Progress]:
    """The bytes of what is trained, and how it went."""

    def prepare(device: torch.device) -> tuple[Task[Any], Save]:
        model = Line()
        torch.nn.init.normal_(model.weight)

        def loss(batch: torch.Tensor) -> Any:
            noise = 0.01 * torch.rand(())  # a tracker that drew numbers would change it
            return model.loss(batch + noise)

        def save(folder: Path, done: Progress) -> None:
            (folder / "line").write_text(repr(model.weight.item()), encoding="utf-8")

        task = Task(
            model=model,
            batches=Points(),
            loss=loss,
            validate=lambda: {"validation_score": -abs(model.weight.item() - 3)},
            score="validation_score",
        )
        return task, save

    plan = TrainingPlan(
        name="line", inputs={"a": "b"}, code={}, seed=seed, hardware=HardwareConfig(device="cpu")
    )
    done = run_job(
        "captioner", plan, TRAINING, prepare,
        output=root / "line", checkpoints=root / "checkpoints", tracking=tracking,
    )  # fmt: skip
    return (root / "line/line").read_text(encoding="utf-8"), done


def expected(done: Progress) -> Curves:
    """Every row of the curves but the last, which the averaged weights add."""
    found: Curves = {}
    for row in done.curves[:-1]:
        for name, value in row.items():
            if name != "step":
                found.setdefault(name, []).append((int(row["step"]), value))
    last = done.curves[-1]
    found["averaged_validation_score"] = [(int(last["step"]), last["validation_score"])]
    return found


def read(tracker: str, folder: Path) -> tuple[Curves, str]:
    """The points and, as text, the settings of the one run that there is."""
    match tracker:
        case "tensorboard":
            return read_tensorboard(folder / tracker)
        case "mlflow":
            return read_mlflow(folder / tracker)
    return read_wandb(folder / tracker)


def read_tensorboard(folder: Path) -> tuple[Curves, str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = folder.iterdir()
    events = EventAccumulator(str(run)).Reload()
    (text,) = events.Tensors("settings/text_summary")
    points = {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }
    return points, text.tensor_proto.string_val[0].decode()


def read_mlflow(folder: Path) -> tuple[Curves, str]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("earwitness")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    points = {
        name: [
            (metric.step, metric.value)
            for metric in client.get_metric_history(run.info.run_id, name)
        ]
        for name in run.data.metrics
    }
    return points, json.dumps(run.data.params)


def read_wandb(folder: Path) -> tuple[Curves, str]:
    """W&B's own messages; its reader of the file is no part of the Python package any more."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    points: Curves = {}
    settings: dict[str, Any] = {}
    for content in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        for each in record.run.config.update:
            settings[each.key] = json.loads(each.value_json)
        items = {i.key or i.nested_key[0]: i.value_json for i in record.history.item}
        for name in items.keys() - {"_step", "_timestamp", "_runtime"}:
            points.setdefault(name, []).append((int(items["_step"]), json.loads(items[name])))
    return points, json.dumps(settings)


def records(content: bytes) -> Iterator[bytes]:
    """Of LevelDB's log: blocks of 32 KiB, of parts with checksum, length and kind."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def same(points: Curves, wanted: Curves) -> bool:
    assert points.keys() == wanted.keys()
    for name, own in points.items():
        steps, values = zip(*own, strict=True)
        assert steps == tuple(step for step, _ in wanted[name]), name
        assert values == pytest.approx([value for _, value in wanted[name]], rel=1e-6), name
    return True


@trackers
def test_a_tracker_has_every_row_of_the_curves_and_the_settings(
    tracker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is trained is the same to the last bit, and nothing is asked of the network."""
    plain, done = train(tmp_path / "plain", None)

    def connect(self: socket.socket, address: Any) -> None:
        host = address if isinstance(address, str) else address[0]
        assert host.startswith(("/", "127.", "\0")), f"asks {address}"
        real(self, address)

    real = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", connect)
    tracked, again = train(tmp_path, Tracking(tracker, tmp_path / "tracking"))
    assert tracked == plain and again.curves == done.curves
    points, settings = read(tracker, tmp_path / "tracking")
    assert len(points["epoch"]) == TRAINING.epochs
    assert {"total", "learning_rate", "gradient_norm", "validation_score"} <= points.keys()
    assert same(points, expected(done))
    assert "float32" in settings or "precision" in settings
    assert "inputs" not in settings


@trackers
def test_a_killed_training_continues_its_run_with_no_point_twice(
    tracker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when a row is logged and its checkpoint is not written: that row is made again."""
    save = Checkpoints.save

    def killed(self: Checkpoints, model: Any, optimizer: Any, progress: Progress, **k: Any) -> None:
        if len(progress.curves) == 3:
            raise Stopped
        save(self, model, optimizer, progress, **k)

    tracking = Tracking(tracker, tmp_path / "tracking")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Checkpoints, "save", killed)
        train(tmp_path, tracking)
    _, done = train(tmp_path, tracking)
    points, _ = read(tracker, tmp_path / "tracking")
    assert len(points["epoch"]) == TRAINING.epochs
    assert same(points, expected(done))
    train(tmp_path, tracking)  # the same plan from its start again: one run, not two
    assert same(read(tracker, tmp_path / "tracking")[0], expected(done))


@trackers
def test_a_tracker_that_is_not_installed_is_said_in_one_line(
    tracker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    lacking = MODULES[tracker][-1]
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == lacking else find(name, *a)
    )
    with pytest.raises(EarwitnessError) as found:
        Tracking(tracker, tmp_path)
    assert str(found.value) == (
        f"tracking: {tracker} needs {lacking}: pip install 'earwitness[{tracker}]', or set "
        "tracking to none"
    )


def test_planning_says_so_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of the plans; no manifest is read for it."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "wandb" else find(name, *a)
    )
    params = parse_params({**TINY, "tracking": "wandb"})
    with pytest.raises(EarwitnessError, match="tracking: wandb needs wandb: pip install"):
        PHASES["tagging"](Context(params, {}, REPOSITORY, tmp_path))


@pytest.mark.parametrize("where", ["__init__", "log", "close"])
def test_a_tracker_that_fails_warns_once_and_training_goes_on(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain, _ = train(tmp_path / "plain", None)

    def full(*values: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorboardRun, where, full)
    capfd.readouterr()
    assert train(tmp_path, Tracking("tensorboard", tmp_path / "tracking"))[0] == plain
    lines = capfd.readouterr().err.splitlines()
    warnings = [line for line in lines if "warning" in line]
    assert len(warnings) == 1 and "No space left on device" in warnings[0]
    assert "training goes on without it" in warnings[0]


def test_two_seeds_are_two_runs(tmp_path: Path) -> None:
    tracking = Tracking("tensorboard", tmp_path / "tracking")
    for seed in (1, 2):
        train(tmp_path, tracking, seed)
    runs = sorted(path.name for path in (tmp_path / "tracking/tensorboard").iterdir())
    assert [name.rsplit("-", 1)[0] for name in runs] == [
        "captioner-line-seed1", "captioner-line-seed2",
    ]  # fmt: skip
    assert str(RunName("captioner", "line", 1, "0123456789")) == "captioner-line-seed1-01234567"


def test_no_code_digest_knows_of_a_tracker() -> None:
    """Nor does a plan (tests/test_planning.py): switching it on trains nothing again."""
    digests = code_digests(["stages.train_captioner", "stages.tagging"], REPOSITORY)
    assert "pipeline.training.loop" in digests
    assert not [name for name in digests if "tracking" in name]


def test_the_default_is_none_and_a_wrong_name_is_said() -> None:
    params = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    assert params["tracking"] == "none"  # -S cannot set what is not there
    with pytest.raises(EarwitnessError, match=r"params.yaml: tracking: .*'mlflow' or 'wandb'"):
        parse_params({**params, "tracking": "mlfow"})

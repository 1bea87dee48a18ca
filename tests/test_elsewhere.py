"""A training on a real Ray cluster: the same bytes as here, whatever the node has and loses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import REPOSITORY
from finetuning_toy import make_base, make_data
from tiny import TINY

from pipeline.config.engine import RayConfig
from pipeline.engine.cluster import Cluster, connected
from pipeline.engine.whole_job import Absent, WholeJob, run_here, run_there
from pipeline.errors import EarwitnessError
from pipeline.files import write_json

ARGUMENTS = ("gru", "1")
PLAN = "data/plans/captioners/gru/1.json"
OUTPUT = "data/models/captioners/gru/1"
READS = ("data/corpora/toy.json", "data/features/toy/one.h5")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan and what it reads, in a folder of which a cluster knows nothing."""
    root = tmp_path_factory.mktemp("elsewhere")
    make_data(root)
    base = make_base("gru")
    training = base.training.model_copy(update={"epochs": 30, "patience_epochs": 30})
    inputs = dict.fromkeys(READS, "0")
    plan = base.model_copy(update={"training": training, "inputs": inputs})
    plan.save(root / PLAN)
    return root


@pytest.fixture(scope="module")
def here(root: Path) -> dict[str, bytes]:
    """What the stage makes in this folder, by this machine alone."""
    done = stage(root)
    assert done.returncode == 0, done.stderr
    return files(root / OUTPUT)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 2})
    yield nodes.address
    nodes.shutdown()


@pytest.fixture(scope="module")
def cluster(address: str) -> Iterator[Cluster]:
    with connected(RayConfig(address=address)) as cluster:
        yield cluster


def stage(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.train_captioner", *ARGUMENTS],
        cwd=root, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def the_job(place: Path, **changes: Any) -> WholeJob:
    given = {
        "command": ("stages.train_captioner", *ARGUMENTS),
        "plan": PLAN,
        "reads": READS,
        "output": OUTPUT,
        "folder": str(place),
        "root": str(place),
        "threads": 1,
    }
    return WholeJob(**{**given, **changes})


def worker_of(root: Path, deadline: float) -> psutil.Process:
    """Ray's process whose training has a checkpoint; never one of somebody else's trainings."""
    checkpoints = (root / "data/checkpoints").resolve()
    while time.monotonic() < deadline:
        if [*checkpoints.glob("*/state.safetensors")]:
            for process in psutil.process_iter():
                with suppress(psutil.Error, OSError):  # it has ended, or is another user's
                    linked = Path(process.cwd()) / "data/checkpoints"
                    if linked.is_symlink() and linked.resolve() == checkpoints:
                        parent = process.parent()
                        assert parent is not None and parent.cmdline()[0].startswith("ray::")
                        return parent
        time.sleep(0.02)
    raise AssertionError("no checkpoint")


def test_a_lost_worker_goes_on_from_the_shared_checkpoint(
    root: Path, here: dict[str, bytes], cluster: Cluster
) -> None:
    from threading import Thread

    killed: list[int] = []

    def kill() -> None:
        worker = worker_of(root, time.monotonic() + 200)
        killed.append(worker.pid)
        worker.kill()

    Thread(target=kill, daemon=True).start()
    made = run_there(cluster, the_job(root), 1, 0)
    assert killed and made.files == here
    assert made.said.startswith("gru: validation CIDEr-D ")
    # it knew them, and has removed them, and the lock of the killed one
    assert not [*root.glob("data/checkpoints/*")]


def test_a_node_without_the_folder_is_sent_what_it_reads(
    root: Path, here: dict[str, bytes], cluster: Cluster
) -> None:
    job = the_job(root, root=str(root / "of another machine"))
    sizes = {name: (root / name).stat().st_size for name in (PLAN, *READS)}
    plan = (root / PLAN).read_bytes()
    assert isinstance(run_here(job, plan, sizes, {}), Absent)
    assert isinstance(run_here(the_job(root), b"{}", sizes, {}), Absent)  # another of that name
    assert run_there(cluster, job, 1, 0).files == here


def test_an_error_of_the_training_is_its_own_line(root: Path, cluster: Cluster) -> None:
    job = the_job(root, command=("stages.train_captioner", "gru", "7"))
    with pytest.raises(EarwitnessError, match=r"^data/plans/captioners/gru/7\.json: .*dvc repro"):
        run_there(cluster, job, 1, 0)
    with pytest.raises(EarwitnessError, match=r"^\.\./w\.h5: not below the repository; give it as"):
        run_there(cluster, the_job(root, reads=("../w.h5",)), 1, 0)


def test_the_stage_writes_what_the_cluster_made(
    root: Path, here: dict[str, bytes], address: str
) -> None:
    for path in (root / OUTPUT).iterdir():
        path.unlink()
    (root / OUTPUT).rmdir()
    own = {"engine": "ray", "ray": {"address": address, "cpus": 3}}
    write_json(root / "params.yaml", {**TINY, **own})  # JSON is YAML
    refused = stage(root)
    assert refused.returncode == 1 and "no node has 3 CPUs" in refused.stderr
    assert refused.stderr.count("\n") == 1 and not (root / OUTPUT).exists()
    own["ray"] = {"address": address}
    write_json(root / "params.yaml", {**TINY, **own})
    done = stage(root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"gru: to be trained on the cluster {address}\ngru: validation")
    assert files(root / OUTPUT) == here
    (record,) = (root / "data/times/train_captioner/gru-1").glob("*.json")
    assert record.stat().st_size  # of this stage, once

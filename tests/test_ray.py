"""A Ray cluster of three nodes on this machine, against this process: the same bytes, and lines.

One cluster for all; the tests are in an order, as the last ones kill its nodes.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from retrieval_toy import make_data, sound, words
from torch import Tensor

from pipeline.config.encoders import SentenceEncoderConfig
from pipeline.config.engine import RayConfig
from pipeline.config.hardware import DeviceConfig
from pipeline.config.plans import EmbeddingPlan, ExtractionPlan
from pipeline.corpora.manifest import Manifest
from pipeline.encoders.registry import build_text_encoder
from pipeline.engine import cluster as clusters
from pipeline.engine.cluster import connected
from pipeline.engine.remote import RayEngine, ray_engine
from pipeline.engine.steps import Engine
from pipeline.errors import EarwitnessError
from pipeline.features import embedding
from pipeline.features.embedding import embed
from pipeline.features.extraction import extract
from pipeline.features.resumable import Parts
from pipeline.trained.encoding import encode
from tests.conftest import REPOSITORY
from tests.test_encoding import PLAN, make_retriever
from tests.test_extraction import Trunk, make_manifest, make_plan
from tests.tiny import TINY

ONE = DeviceConfig(device="cpu", threads=1)
NODES = 3


class Nodes(Cluster):
    """A head and two more nodes, of one core each."""

    def __init__(self) -> None:
        super().__init__(initialize_head=True, head_node_args={"num_cpus": 1})
        self.others = [self.add_node(num_cpus=1) for _ in range(NODES - 1)]

    def kill(self) -> None:
        """One that is not the head, as a machine would lose its power."""
        self.remove_node(self.others.pop(), allow_graceful=False)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # 15 otherwise: behind all other tests
        # where the tests' own encoders are
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests"))))
        found = Nodes()
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def cluster(nodes: Nodes) -> Iterator[clusters.Cluster]:
    with connected(RayConfig(address=nodes.address)) as found:
        yield found


@pytest.fixture(scope="module")
def engine(cluster: clusters.Cluster) -> Iterator[RayEngine]:
    with ray_engine(cluster, ONE) as found:
        yield found


@pytest.fixture(scope="module")
def one(cluster: clusters.Cluster, engine: RayEngine) -> Iterator[RayEngine]:
    """Of a single worker; the three of the other end."""
    engine.close()
    settings = RayConfig(address=cluster.settings.address, workers=1)
    with ray_engine(clusters.Cluster(settings), ONE) as found:
        yield found


def both(make: Callable[[Path, Engine | None], Path], folder: Path, engine: Engine) -> None:
    """What is made here and there: the same files, to the bit."""
    ours, theirs = make(folder / "here", None), make(folder / "there", engine)
    found = [
        {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(of.rglob("*.h5"))}
        for of in (ours, theirs)
    ]
    assert found[0] == found[1] and found[0]


def extracted(encoder: Any, plan: ExtractionPlan, folder: Path, engine: Engine | None) -> Path:
    manifest = make_manifest(folder / "raw")
    paths = folder / "partial", folder / "features/noise/trunk.h5"
    _, report = extract(manifest, folder / "raw", encoder, "w", plan, *paths, engine)
    assert report.count == len(manifest.clips)
    assert 0 < report.encoder_seconds <= report.seconds
    return folder / "features"


def test_extraction_gives_the_same_file(tmp_path: Path, engine: RayEngine) -> None:
    """A real network, with views, in batches that end on three nodes."""
    plan = make_plan(views=1)
    trunk = Trunk()
    both(lambda folder, used: extracted(trunk, plan, folder, used), tmp_path, engine)
    assert trunk.batches and len({node["NodeID"] for node in ray.nodes()}) == NODES


def test_encoding_gives_the_same_files(
    tmp_path: Path, engine: RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tower's frames, and the embeddings of both sides."""
    manifest = make_data(tmp_path)
    monkeypatch.setattr("pipeline.trained.inputs.BATCH_FRAMES", {"cpu": 200})
    retriever = make_retriever()

    def made(folder: Path, used: Engine | None) -> Path:
        stores = sound(tmp_path, "one"), [words(tmp_path)]
        paths = folder / "partial", folder / "tiny"
        encode(PLAN, manifest, *stores, retriever, "w", *paths, used)
        assert len([*(folder / "tiny").iterdir()]) == 3
        return folder / "tiny"

    both(made, tmp_path, engine)
    assert retriever.device.type == "cpu" and not retriever.model.training


def test_embedding_gives_the_same_file(
    tmp_path: Path, one: RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the MiniLM that is installed."""
    monkeypatch.setattr(embedding, "PART", 7)
    settings = SentenceEncoderConfig(module="sentence")
    plan = EmbeddingPlan(name="minilm", inputs={}, code={}, dataset="noise", encoder=settings)
    encoder = build_text_encoder(plan.encoder)

    def made(folder: Path, used: Engine | None) -> Path:
        manifest = make_manifest(folder / "raw")
        paths = folder / "partial", folder / "features/noise/minilm.h5"
        embed(manifest, encoder, "w", plan, *paths, used)
        return folder / "features"

    both(made, tmp_path, one)


def test_a_broken_recording_is_the_same_line(tmp_path: Path, one: RayEngine) -> None:
    manifest = make_manifest(tmp_path / "raw")
    path = tmp_path / "raw/6.wav"
    path.write_bytes(path.read_bytes()[:30])
    lines = []
    for used in (None, one):
        with pytest.raises(EarwitnessError) as caught:
            files = tmp_path / "partial", tmp_path / "trunk.h5"
            extract(manifest, tmp_path / "raw", Trunk(), "w", make_plan(), *files, used)
        assert type(caught.value).__module__ == "pipeline.errors"
        lines.append(str(caught.value))
    assert lines[0] == lines[1] and "6.wav" in lines[0]


def test_an_interrupted_job_goes_on_in_this_process(
    tmp_path: Path, one: RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, plan = make_manifest(tmp_path / "raw"), make_plan(batch_seconds=2.0)
    files = tmp_path / "partial", tmp_path / "trunk.h5"
    save, saved = Parts.save, list[int]()

    def stops(self: Parts, part: int, *arrays: Any) -> None:
        if len(saved) == 3:
            raise KeyboardInterrupt
        save(self, part, *arrays)
        saved.append(part)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Parts, "save", stops)
        extract(manifest, tmp_path / "raw", Trunk(), "w", plan, *files, one)
    _, report = extract(manifest, tmp_path / "raw", Trunk(), "w", plan, *files)
    assert 0 < report.count < len(manifest.clips)
    whole = extracted(Trunk(), plan, tmp_path / "whole", None) / "noise/trunk.h5"
    assert files[1].read_bytes() == whole.read_bytes()


def test_a_module_that_a_node_lacks_is_a_line(
    tmp_path: Path, one: RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from tests.test_extraction import Trunk\n\n\nclass Here(Trunk):\n    pass\n"
    (tmp_path / "only_here.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    encoder = importlib.import_module("only_here").Here()
    manifest = make_manifest(tmp_path / "raw")
    files = tmp_path / "partial", tmp_path / "trunk.h5"
    line = r"^a node of the cluster has no Python module only_here: install there what is"
    with pytest.raises(EarwitnessError, match=line):
        extract(manifest, tmp_path / "raw", encoder, "w", make_plan(), *files, one)


def root_of(number: float) -> tuple[float, str, str]:
    if number < 0:
        raise EarwitnessError("number: negative; give another")
    return number**0.5, os.environ["OMP_NUM_THREADS"], str(Path.cwd())


def test_a_function_runs_as_a_task_and_an_error_of_it_is_its_own(
    cluster: clusters.Cluster, one: RayEngine
) -> None:
    one.close()
    tasks = [cluster.start(root_of, number) for number in (9, -9)]
    assert tasks[0].result() == (3.0, "1", str(Path.cwd()))
    with pytest.raises(EarwitnessError, match=r"^number: negative; give another$"):
        tasks[1].result()
    with pytest.raises(EarwitnessError, match=r"no node has 64 CPUs and 0 GPUs \(at most 1 CPUs"):
        cluster.start(root_of, 9, cpus=64)


def test_a_worker_of_more_threads_than_a_node_has_cores_is_a_line(
    cluster: clusters.Cluster,
) -> None:
    line = r"no node has 7 CPUs and 0 GPUs .*; lower ray.cpus, ray.gpus or hardware.threads"
    with pytest.raises(EarwitnessError, match=line):
        RayEngine(cluster, DeviceConfig(device="cpu", threads=7))
    with pytest.raises(EarwitnessError, match=r"no node has 1 CPUs and 1 GPUs"):
        RayEngine(cluster, DeviceConfig(device="cuda", threads=1))


class Logs(Trunk):
    """Slow, and says in a file what it computes; it ends its process at one clip, if so asked."""

    def __init__(self, log: Path, ends: bool = False) -> None:
        super().__init__(seconds=0.5)
        self.log, self.ends = str(log), ends

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Any:
        with Path(self.log).open("a", encoding="utf-8") as stream:
            stream.write(f"{len(logmel)} ")
        if self.ends and len(logmel) == 1:
            os._exit(3)
        return super().trunk(logmel, lengths)


class Kills(RayEngine):
    """Kills a node when the second batch is back."""

    nodes: Nodes

    def run(self, *arguments: Any) -> Iterator[int]:
        for count, number in enumerate(super().run(*arguments)):
            if count == 1:
                self.nodes.kill()
            yield number


def test_a_node_that_is_lost_in_mid_extraction_costs_what_was_on_its_way(
    tmp_path: Path, cluster: clusters.Cluster, nodes: Nodes
) -> None:
    plan = make_plan(batch_seconds=2.0)
    killed = Kills(cluster, ONE)
    killed.nodes = nodes
    log = tmp_path / "log"

    def made(folder: Path, used: Engine | None) -> Path:
        encoder = Logs(log) if used else Trunk()
        return extracted(encoder, plan, folder, used)

    both(made, tmp_path, killed)
    killed.close()
    batches = len(log.read_text(encoding="utf-8").split())
    here = Trunk()
    extracted(here, plan, tmp_path / "again", None)
    assert len(here.batches) < batches <= len(here.batches) + 4  # a worker has three at a time
    assert len(nodes.others) == NODES - 2


def test_a_recording_that_ends_its_worker_each_time_is_named(
    tmp_path: Path, cluster: clusters.Cluster
) -> None:
    settings = RayConfig(address=cluster.settings.address, retries=0, workers=1)
    manifest = make_manifest(tmp_path / "raw")
    files = tmp_path / "partial", tmp_path / "trunk.h5"
    line = r"^clip-2.*: the worker that had it ended 1 times .*what is done is saved$"
    ends = Logs(tmp_path / "log", ends=True)  # the longest clip is a batch of its own
    with (
        ray_engine(clusters.Cluster(settings), ONE) as alone,
        pytest.raises(EarwitnessError, match=line),
    ):
        extract(manifest, tmp_path / "raw", ends, "w", make_plan(batch_seconds=2.0), *files, alone)


def test_the_stage_on_a_cluster_that_gets_the_code(tmp_path: Path, nodes: Nodes) -> None:
    """``python -m stages.extract`` twice, on another address than local; from relative paths."""
    plan = ExtractionPlan(
        name="logmel", inputs={}, code={}, dataset="noise", spec_augment=None, weights=None,
        hardware=ONE, encoder={**TINY["encoders"]["logmel"], "sample_rate": 8000, "fmax": 4000.0},
    )  # fmt: skip
    made = []
    for address in (None, nodes.address):
        root = tmp_path / str(address is None)
        make_manifest(root / "data/raw/noise")
        clips = make_manifest(root / "data/raw/noise").clips
        Manifest("noise", "data/raw/noise", clips).save(root / "data/corpora/noise.json")
        plan.save(root / "data/plans/extraction/noise-logmel.json")
        own = {"engine": "ray", "ray": {"address": address}} if address else {}
        (root / "params.yaml").write_text(json.dumps({**TINY, **own}), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "stages.extract", "noise", "logmel"],
            cwd=root, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0 and "16 clips" in done.stdout, done.stdout + done.stderr
        assert not done.stderr, done.stderr
        made.append((root / "data/features/noise/logmel.h5").read_bytes())
    assert made[0] == made[1]

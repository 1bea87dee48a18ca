"""Extraction on a Ray cluster of three nodes made on this machine: ``python -m
benchmarks.ray_cluster``.

First ten extractions, in each of which a node is killed at a random batch, as a machine would lose
its power; another takes its place before the next. Each file must be the one that this process
makes, to the byte: if one is not, this ends with an error.

Then what Ray costs, one thread each: extraction, and embedding by a real MiniLM, by one worker
against this process; what a second worker gives; and how long what comes before takes, which is not
in the ratios: to start a cluster, and a worker with the encoder. Where other jobs take the cores,
wall times say little of Ray, so the seconds that all its processes compute together are compared
with this process's as well. At last how many parts a second this process hands out and saves where
workers compute nothing, which bounds how many it can feed.

``python -m benchmarks.ray_cluster 3`` kills three.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from ray.cluster_utils import Cluster

from benchmarks.extraction import plan_of, write_clips
from benchmarks.text_only import MINILM, corpus
from benchmarks.timing import Row, compare, print_table, seconds
from pipeline.config.encoders import PannsEncoderConfig
from pipeline.config.engine import RayConfig
from pipeline.config.hardware import DeviceConfig
from pipeline.config.plans import EmbeddingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.encoders.panns import PannsEncoder
from pipeline.encoders.registry import build_text_encoder
from pipeline.engine.cluster import connected
from pipeline.engine.remote import RayEngine
from pipeline.engine.steps import Engine, Steps
from pipeline.engine.throughput import Report
from pipeline.features.embedding import embed
from pipeline.features.extraction import extract
from pipeline.features.resumable import Parts

KILLS, NODES, CLIPS, REPEATS = 10, 3, 24, 3
IDLE = 8.0  # seconds
PARTS, PART_FRAMES, WIDTH = 200, 750, 512  # of workers that compute nothing: 24 s of CNN10 each
SMALL = PannsEncoderConfig(
    module="panns", model="cnn10", channels=8, weights="none", batch_seconds=6.0
)
LARGE = PannsEncoderConfig(module="panns", model="cnn10", weights="none", batch_seconds=24.0)
HARDWARE = DeviceConfig(device="cpu", threads=1)
TO_LOCAL, TO_ONE = 1.2, 1.5  # times longer at most; times faster at least, by a second worker


class Killing(RayEngine):
    """Kills a node once: when batch ``at`` is back, or a later one, of those that have work."""

    at: int | None = None
    others: list[Any]  # nodes that are not the head
    remove: Callable[[Any], None]

    def run(self, *arguments: Any) -> Iterator[int]:
        for count, number in enumerate(super().run(*arguments)):
            if self.at is not None and count >= self.at:
                self._kill()
            yield number

    def _kill(self) -> None:
        busy = {hand.node for hand in self._pool._hands if hand.items}
        for node in self.others:
            if node.node_id in busy:
                self.remove(node)
                self.others.remove(node)
                self.at = None
                return


class Extraction:
    """Of one dataset by one encoder."""

    def __init__(self, folder: Path, manifest: Manifest, settings: PannsEncoderConfig) -> None:
        torch.manual_seed(0)
        self.encoder = PannsEncoder(settings).eval().requires_grad_(False)
        self.folder, self.manifest, self.plan = folder, manifest, plan_of(settings)

    def __call__(self, engine: Engine | None = None) -> str:
        """The file's digest."""
        path = self.folder / "features.h5"
        partial = self.folder / "partial"
        extract(self.manifest, self.folder, self.encoder, "", self.plan, partial, path, engine)
        return hashlib.sha256(path.read_bytes()).hexdigest()


class Embedding:
    """Of captions as in `soundscapes`, by the MiniLM of the default run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, corpus()
        self.encoder = build_text_encoder(MINILM)
        self.plan = EmbeddingPlan(
            name="minilm", inputs={}, code={}, dataset="words", encoder=MINILM
        )

    def __call__(self, engine: Engine | None = None) -> None:
        paths = self.folder / "partial", self.folder / "minilm.h5"
        embed(self.manifest, self.encoder, "", self.plan, *paths, engine)


class Nothing(Steps[int, int, int, NDArray[np.float16]]):
    """Steps that cost nothing but what goes to and fro."""

    device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        pass

    def read(self, item: int) -> int:
        return item

    def compute(self, read: int) -> int:
        return read

    def finish(self, output: int) -> NDArray[np.float16]:
        return np.full((PART_FRAMES, WIDTH), output, np.float16)

    def label(self, item: int) -> str:
        return str(item)


def fed(folder: Path, engine: Engine) -> float:
    """Parts a second that this process hands out, takes back and saves."""
    entries = [np.array([number]) for number in range(PARTS)]
    parts, one = Parts(folder / "nothing", entries, WIDTH), np.array([PART_FRAMES])

    def keep(number: int, values: NDArray[np.float16]) -> None:
        parts.save(number, values, one)

    with parts.held(folder / "nothing.h5"):
        start = time.perf_counter()
        for _ in engine.run(Nothing(), iter(range(PARTS)), keep, Report(), PARTS):
            pass
        took = time.perf_counter() - start
        parts.remove()
    return PARTS / took


def computed() -> float:
    """Seconds that this process, the cluster's and their workers have computed."""
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):  # it has ended
            times = process.cpu_times()
            total += times.user + times.system
    return total


def computing(job: Callable[[Engine | None], object], engine: Engine, idle: float) -> float:
    """How many times more is computed for a job through Ray than by this process.

    Args:
        idle: seconds that the cluster computes each second, job or not; they are taken off.
    """
    before, begun = computed(), time.perf_counter()
    job(engine)
    through = computed() - before - idle * (time.perf_counter() - begun)
    start = time.process_time()
    job(None)
    return through / (time.process_time() - start)


def kills(whole: Extraction, engine: Killing, cluster: Cluster, count: int) -> None:
    """Prints a row for each; ends with an error where a file is another."""
    expected, dice = whole(), random.Random(0)
    engine.others = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]
    engine.remove = partial(cluster.remove_node, allow_graceful=False)
    print("| node killed | at batch | the same file |")
    print("|---:|---:|---|")
    for number in range(count):
        engine.at = at = dice.randrange(CLIPS // 2)
        while engine.at is not None:  # once more, where no worker but the head's is there yet
            if whole(engine) != expected:
                raise SystemExit("another file")
        print(f"| {number + 1} | {at + 1} | yes |", flush=True)
        engine.others.append(cluster.add_node(num_cpus=1))
    print()


def costs(folder: Path, address: str) -> list[Row]:
    """Of one worker and of two; what comes before, and the driver's own, in lines of their own."""
    large = Extraction(folder, write_clips(folder, 2 * CLIPS), LARGE)
    words = Embedding(folder)
    with connected(RayConfig(address=address)) as found:

        def of(workers: int) -> RayEngine:
            return RayEngine(type(found)(RayConfig(address=address, workers=workers)), HARDWARE)

        before = computed()
        time.sleep(IDLE)
        idle = (computed() - before) / IDLE
        print(f"a cluster of {NODES} nodes computes {100 * idle:.0f} % of a core while it waits")
        one = of(1)
        first, warm = (seconds(lambda: large(one)) for _ in range(2))
        print(f"a worker's start, with its encoder: {first - warm:.1f} s")
        rows = [
            compare(
                f"{what} by one Ray worker / in this process",
                partial(job, one), job, TO_LOCAL, REPEATS, at_most=True,
            )
            for what, job in (("extraction", large), ("embedding", words))
        ]  # fmt: skip
        for what, job in (("extraction", large), ("embedding", words)):
            ratio = computing(job, one, idle)
            print(f"computed by Ray's processes and this one for {what}: {ratio:.2f} × alone")
        two = of(2)
        title = "extraction by one Ray worker, by two"
        rows.append(compare(title, partial(large, one), partial(large, two), TO_ONE, REPEATS))
        print(f"parts a second, of workers that compute nothing: {fed(folder, two):.0f}\n")
        one.close()
        two.close()
    return rows


def measure(count: int) -> list[Row]:
    torch.set_num_threads(1)
    start = time.perf_counter()
    with connected(RayConfig(address="local")):
        print(f"a cluster of this machine starts in {time.perf_counter() - start:.1f} s\n")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(NODES - 1):
        cluster.add_node(num_cpus=1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        if count:
            with connected(RayConfig(address=cluster.address)) as found:
                engine = Killing(found, HARDWARE)
                kills(Extraction(folder, write_clips(folder, CLIPS), SMALL), engine, cluster, count)
                engine.close()
        rows = costs(folder, cluster.address)
    cluster.shutdown()
    return rows


if __name__ == "__main__":
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # 15 otherwise
    print_table(measure(int(sys.argv[1]) if len(sys.argv) > 1 else KILLS))

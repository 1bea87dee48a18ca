"""Extraction on a Ray cluster of three nodes made on this machine: ``python -m
benchmarks.ray_cluster``.

First ten extractions, in each of which a node is killed at a random batch, as a machine would lose
its power; another takes its place before the next. Each file must be the one that this process
makes, to the byte: if one is not, this ends with an error. Then what Ray costs: an extraction by
one worker, which holds its encoder already, against the same in this process; one thread each.

``python -m benchmarks.ray_cluster 3`` kills three.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ray.cluster_utils import Cluster

from benchmarks.extraction import plan_of, write_clips
from benchmarks.timing import Row, compare, print_table
from pipeline.config.encoders import PannsEncoderConfig
from pipeline.config.engine import RayConfig
from pipeline.config.hardware import DeviceConfig
from pipeline.corpora.manifest import Manifest
from pipeline.encoders.panns import PannsEncoder
from pipeline.engine.cluster import connected
from pipeline.engine.remote import RayEngine
from pipeline.engine.steps import Engine
from pipeline.features.extraction import extract

KILLS, NODES, CLIPS, REPEATS = 10, 3, 24, 3
SMALL = PannsEncoderConfig(
    module="panns", model="cnn10", channels=8, weights="none", batch_seconds=6.0
)
LARGE = PannsEncoderConfig(module="panns", model="cnn10", weights="none", batch_seconds=24.0)
HARDWARE = DeviceConfig(device="cpu", threads=1)
TO_LOCAL = 1.2  # times longer, at most


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


def measure(count: int) -> list[Row]:
    torch.set_num_threads(1)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(NODES - 1):
        cluster.add_node(num_cpus=1)
    with TemporaryDirectory() as name, connected(RayConfig(address=cluster.address)) as found:
        folder = Path(name)
        manifest = write_clips(folder, CLIPS)
        engine = Killing(found, HARDWARE)
        kills(Extraction(folder, manifest, SMALL), engine, cluster, count)
        engine.close()
        alone = type(found)(RayConfig(address=cluster.address, workers=1))
        one, large = RayEngine(alone, HARDWARE), Extraction(folder, manifest, LARGE)
        title = "extraction by one Ray worker / in this process"
        row = compare(title, lambda: large(one), large, TO_LOCAL, REPEATS, at_most=True)
        one.close()
    cluster.shutdown()
    return [row]


if __name__ == "__main__":
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # 15 otherwise
    print_table(measure(int(sys.argv[1]) if len(sys.argv) > 1 else KILLS))

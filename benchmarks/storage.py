"""Extraction from object storage against the disk: ``python -m benchmarks.storage``.

The server is moto's, in a process of its own on this machine, whose cores it shares with the
encoder. The first row has PANNs' CNN10 at its published size with random weights. The second row
shows the waiting alone, as it is where a server is far away and a GPU encodes: the storage is this
process's memory, each request takes 100 ms, and the encoder is a small one. The obvious way asks
for one recording of a batch after the other.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import fsspec
import torch

from benchmarks.extraction import PANNS, plan_of, write_clips
from benchmarks.timing import Row, compare, print_table
from pipeline.config.plans import ExtractionPlan
from pipeline.corpora.manifest import Manifest
from pipeline.encoders.base import SoundEncoder
from pipeline.encoders.panns import PannsEncoder
from pipeline.features import bringing
from pipeline.features.extraction import extract
from pipeline.storage import remote

BUCKET, CLIPS, REPEATS = "sounds", 32, 3
LATENCY = 0.1  # seconds until a server answers that is far away
QUICK = {"channels": 4, "batch_seconds": 96.0}  # of CNN10's 64; 16 clips or so a batch
TO_DISK, TO_ONE = 1.15, 1.1
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def server() -> Iterator[None]:
    """An S3 of this machine, which clients find by the environment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    given = ENVIRONMENT | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    try:
        with patch.dict(os.environ, given):
            _wait_for(port)
            yield
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the server has not started")


@contextmanager
def late(requests: int) -> Iterator[None]:
    """Each request takes :data:`LATENCY` longer, and a batch has ``requests`` on their way."""
    read = remote.read

    def slow(url: str, start: int, stop: int, exact: bool = True) -> bytes:
        time.sleep(LATENCY)
        return read(url, start, stop, exact)

    with patch.object(remote, "read", slow), patch.object(bringing, "REQUESTS", requests):
        yield


def uploaded(manifest: Manifest, root: str) -> Manifest:
    """The same dataset in object storage."""
    storage = fsspec.filesystem(root.partition(":")[0])
    storage.mkdirs(root.rpartition("/")[0])
    for clip in manifest.clips:
        storage.pipe_file(f"{root}/{clip.path}", (Path(manifest.root) / clip.path).read_bytes())
    return replace(manifest, root=root)


def measure() -> list[Row]:
    torch.manual_seed(0)
    real = PannsEncoder(PANNS).eval().requires_grad_(False)
    settings = PANNS.model_copy(update=QUICK)
    quick = PannsEncoder(settings).eval().requires_grad_(False)
    with TemporaryDirectory() as name, server():
        folder = Path(name)
        here = write_clips(folder, CLIPS)
        there = uploaded(here, f"s3://{BUCKET}/clips")
        held = uploaded(here, f"memory://{BUCKET}/clips")

        def run(manifest: Manifest, encoder: SoundEncoder, plan: ExtractionPlan) -> None:
            partial, path = folder / "partial", folder / "features.h5"
            extract(manifest, Path(manifest.root), encoder, "", plan, partial, path)

        def obvious() -> None:
            with late(1):
                run(held, quick, plan_of(settings))

        def ours() -> None:
            with late(bringing.REQUESTS):
                run(held, quick, plan_of(settings))

        def stored() -> None:
            run(there, real, plan_of(PANNS))

        def local() -> None:
            run(here, real, plan_of(PANNS))

        name = "storage: from a server / from the disk"
        return [
            compare(name, stored, local, TO_DISK, REPEATS, at_most=True),
            compare("storage: a request at a time, 100 ms", obvious, ours, TO_ONE, REPEATS),
        ]


if __name__ == "__main__":
    print_table(measure())

"""What surrounds every training run: one at a time, resumable, deterministic on a CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pipeline.device import deterministic
from pipeline.lock import exclusive
from pipeline.training.checkpoints import Checkpoints


@contextmanager
def training_job(
    name: str, identity: bytes, output: Path, checkpoints: Path, device: torch.device
) -> Iterator[Checkpoints]:
    """The job's checkpoints, held by it alone; they are removed once the block ends without error.

    Args:
        name: of the job, such as ``captioner-edtc``.
        identity: all that the checkpoints depend on: the plan, and what it starts from.
        output: the folder that it makes; two runs that make the same one exclude each other.
        checkpoints: folder of all jobs' checkpoints.

    Raises:
        EarwitnessError: the same job is running.
    """
    where = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:8]
    digest = hashlib.sha256(identity).hexdigest()[:16]
    with (
        exclusive(checkpoints / f"{name}-to-{where}.lock"),
        Checkpoints(checkpoints, name, digest) as saved,
        deterministic(device),
    ):
        yield saved
        saved.remove()

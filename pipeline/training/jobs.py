"""The one job of every trainer: alone, seeded, resumable, and to the same bits on a CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.config.plans import TrainingPlan
from pipeline.config.training import OptimisationConfig
from pipeline.device import deterministic, set_up
from pipeline.files import replacing_folder
from pipeline.lock import exclusive
from pipeline.training.checkpoints import Checkpoints, Progress
from pipeline.training.loop import Task, fit

Save = Callable[[Path, Progress], None]  # into an empty folder


def run_job(
    kind: str,
    plan: TrainingPlan,
    training: OptimisationConfig,
    prepare: Callable[[torch.device], tuple[Task[Any], Save]],
    *,
    output: Path,
    checkpoints: Path,
    start: bytes = b"",
) -> Progress:
    """Trains what ``prepare`` builds and saves the best of it.

    Killed and called again it goes on from its last checkpoint, and on a CPU with the same number
    of threads ends with the same bytes.

    Args:
        kind: of what is trained, such as ``captioner``.
        training: the settings of the loop.
        prepare: builds the model, with random numbers that follow from the plan's seed.
        output: a folder, there whole or not at all; two runs that make the same exclude each other.
        checkpoints: folder of all jobs' checkpoints; this one's are removed at the end.
        start: all that the checkpoints depend on beside the plan: what training starts from.

    Raises:
        EarwitnessError: the same job is running, or what the user can mend.
    """
    device = set_up(plan.hardware.device, plan.hardware.threads)
    name = f"{kind}-{plan.name}"
    where = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:8]
    digest = hashlib.sha256(plan.model_dump_json().encode() + start).hexdigest()[:16]
    with (
        exclusive(checkpoints / f"{name}-to-{where}.lock"),
        Checkpoints(checkpoints, name, digest) as saved,
        deterministic(device),
    ):
        torch.manual_seed(plan.seed)
        task, save = prepare(device)
        progress = fit(task, training, plan.hardware, saved, plan.name)
        with replacing_folder(output) as folder:
            save(folder, progress)
        saved.remove()
    return progress

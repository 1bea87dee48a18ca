"""The job of every trainer: locked, seeded, resumable, and reproducible to the bit on a CPU."""

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
    """Trains what ``prepare`` builds, and saves it.

    If it is killed and called again, it continues from the last checkpoint. On a CPU with the same
    number of threads it ends with the same bytes.

    Args:
        kind: what is trained, such as ``captioner``.
        training: the settings of the loop.
        prepare: builds the model, with random numbers that follow from the plan's seed.
        output: a folder, written whole or not at all, and by one run at a time.
        checkpoints: folder of all jobs' checkpoints; those of this job are removed at the end.
        start: a digest of what training starts from, where the plan does not say it.

    Raises:
        EarwitnessError: the same job is running, or see ``prepare`` and :func:`fit`.
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

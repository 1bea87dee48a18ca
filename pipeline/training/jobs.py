"""The job of every trainer: locked, seeded, resumable, and reproducible to the bit on a CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline import collectives, ranks
from pipeline.config.hardware import HardwareConfig
from pipeline.config.plans import TrainingPlan
from pipeline.config.training import OptimisationConfig
from pipeline.device import deterministic, set_up
from pipeline.errors import EarwitnessError
from pipeline.files import replacing_folder
from pipeline.lock import one_writer
from pipeline.threads import one_thread
from pipeline.tracking.registry import Tracking
from pipeline.tracking.run import RunName
from pipeline.training.checkpoints import Checkpoints, Progress
from pipeline.training.loop import Task, fit, untracked

Save = Callable[[Path, Progress], None]  # into an empty folder
# weights; the steps of a smaller model are too short to be divided: two threads take longer than
# one for the default's captioners, and gain a fifth for its CNNs (docs/sweeps.md)
SMALL = 5_000_000


def run_job(
    kind: str,
    plan: TrainingPlan,
    training: OptimisationConfig,
    prepare: Callable[[torch.device], tuple[Task[Any], Save]],
    *,
    output: Path,
    checkpoints: Path,
    start: bytes = b"",
    tracking: Tracking | None = None,
) -> Progress:
    """Trains what ``prepare`` builds, and saves it.

    If it is killed and called again, it continues from the last checkpoint. On a CPU with the same
    number of threads it ends with the same bytes; of ``auto``, a model of fewer than SMALL weights
    takes one.

    Of several ranks (pipeline/ranks.py) the first holds the locks, and writes. Checkpoints do not
    depend on their number, so a training may go on with another.

    Args:
        kind: what is trained, such as ``captioner``.
        training: the settings of the loop.
        prepare: builds the model, with random numbers that follow from the plan's seed.
        output: a folder, written whole or not at all, and by one run at a time.
        checkpoints: folder of all jobs' checkpoints; those of this job are removed at the end.
        start: a digest of what training starts from, where the plan does not say it.
        tracking: where its curves are written to as well, on the way; they change nothing.

    Raises:
        EarwitnessError: the same job is running, a batch has fewer rows than there are ranks, or
            see ``prepare`` and :func:`fit`.
    """
    if training.batch < ranks.count():
        raise EarwitnessError(
            f"{plan.name}: {ranks.count()} processes cannot divide a batch of {training.batch}; "
            "set hardware.processes to at most that"
        )
    device = _set_up(plan.hardware)
    name = f"{kind}-{plan.name}-{plan.seed}"  # side by side, a seed must not remove another's
    settings = plan.model_dump_json(exclude={"hardware": {"processes"}})
    digest = hashlib.sha256(settings.encode() + start).hexdigest()[:16]
    first = ranks.is_first()
    with (
        one_writer(checkpoints, name, output) if first else nullcontext(),
        Checkpoints(checkpoints, name, digest, owner=first) as saved,
        deterministic(device),
    ):
        ranks.wait()  # the first has the locks now, or has said why not
        torch.manual_seed(plan.seed)
        task, save = prepare(device)
        if plan.hardware.threads == "auto" and device.type == "cpu" and _is_small(task.model):
            one_thread()
        track = untracked
        if tracking is not None and first:
            run = RunName(kind, plan.name, plan.seed, digest)
            track = partial(tracking.run, run, _settings(plan))
        progress = fit(task, training, plan.hardware, saved, plan.name, track)
        if first:
            with replacing_folder(output) as folder:
                save(folder, progress)
            saved.remove()
    return progress


def _set_up(hardware: HardwareConfig) -> torch.device:
    """The device of this process, which keeps to its threads."""
    own = collectives.own()
    return set_up(own.device if own else hardware.device, ranks.threads(hardware.threads))


def _is_small(model: nn.Module) -> bool:
    return sum(parameter.numel() for parameter in model.parameters()) < SMALL


def _settings(plan: TrainingPlan) -> dict[str, Any]:
    """Of a plan, without the fingerprints of what it reads and runs."""
    return plan.model_dump(mode="json", exclude={"inputs", "code"})

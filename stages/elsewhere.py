"""Trains on a cluster what a stage is asked for, where params.yaml says ``engine: ray``.

Where something is computed changes no result, so this code is of no digest
(pipeline/planning/code.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.config.plans import TrainingPlan
from pipeline.files import replacing_folder
from stages import paths
from stages.engine import asked_cluster


def trained_elsewhere(plan: TrainingPlan, path: Path, output: Path) -> bool:
    """Whether a cluster was asked to train it, and has: the folder ``output`` is there then.

    A cluster of this machine alone is not asked, as this process is on it.

    Args:
        path: of the plan.

    Raises:
        EarwitnessError: the training's own error, or the cluster's.
    """
    settings = asked_cluster()
    if settings is None or settings.address == "local":
        return False
    from pipeline.engine.cluster import connected
    from pipeline.engine.whole_job import WholeJob, run_there

    threads = _threads(plan)
    job = WholeJob(
        command=(f"stages.{Path(sys.argv[0]).stem}", *sys.argv[1:]),
        plan=path.as_posix(),
        reads=tuple(plan.inputs),
        output=output.as_posix(),
        folder=str(Path.cwd()),
        root=str(paths.ROOT.resolve()),
        threads=threads,
    )
    print(f"{plan.name}: to be trained on the cluster {settings.address}", flush=True)
    with connected(settings) as cluster:
        gpus = cluster.gpus_for(plan.hardware.device)
        cpus = float(threads) if settings.cpus == "auto" else settings.cpus
        made = run_there(cluster, job, cpus, gpus)
    with replacing_folder(output) as folder:
        for name, content in made.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    print(made.said, end="")
    return True


def _threads(plan: TrainingPlan) -> int:
    """The plan's; ``auto``: what this process has, so that the model is the one of this machine."""
    if plan.hardware.threads != "auto":
        return plan.hardware.threads
    import torch

    return int(torch.get_num_threads())

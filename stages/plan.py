"""Writes what each job is given: ``python -m stages.plan <phase>``; dvc.yaml has the phases."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline import planning
from pipeline.config import load_params
from pipeline.corpora.manifest import Manifest
from pipeline.files import write_json
from stages import paths
from stages.run import run


def main(phase: str) -> None:
    """Plans one phase into data/plans/<phase>/, from params.yaml and what is made so far."""
    params = load_params(paths.PARAMS)
    manifests = {name: Manifest.load(paths.CORPORA / f"{name}.json") for name in params.datasets}
    package = Path(planning.__file__).parent
    if phase == "tagging":
        plans = planning.tagging_plans(params, manifests, package)
    elif phase == "extraction":
        plans = planning.extraction_plans(params, manifests, package, paths.MODELS / "encoders")
    elif phase == "captioners":
        plans = planning.captioner_plans(params, manifests, package, paths.INDEX)
    else:
        trained = paths.MODELS / "captioners"
        plans = planning.system_plans(params, manifests, package, paths.INDEX, trained)
    folder = paths.PLANS / phase
    shutil.rmtree(folder, ignore_errors=True)
    for name, plan in plans.items():
        plan.save(folder / f"{name}.json")
    write_json(folder / "jobs.json", sorted(plans))


if __name__ == "__main__":
    run(main)

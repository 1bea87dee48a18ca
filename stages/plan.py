"""Writes what each job is given: ``python -m stages.plan <phase>``; dvc.yaml has the phases."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.config.params import load_params
from pipeline.files import write_json
from pipeline.planning import PHASES, Context
from stages import paths
from stages.run import run


def main(phase: str) -> None:
    """Plans one phase into data/plans/<phase>/, from params.yaml and what is made so far."""
    params = load_params(paths.PARAMS)
    code = Path(__file__).parents[1]
    plans = PHASES[phase](Context.read(params, code, Path()))
    folder = paths.PLANS / phase
    shutil.rmtree(folder, ignore_errors=True)
    for name, plan in plans.items():
        plan.save(folder / f"{name}.json")
    write_json(folder / "jobs.json", sorted(plans))


if __name__ == "__main__":
    run(main)

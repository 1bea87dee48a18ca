"""Writes the plans of one phase's jobs: ``python -m stages.plan <phase>``."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.config.params import load_params
from pipeline.planning import PHASES, Context
from stages import paths
from stages.run import run


def main(phase: str, entry: str = "") -> None:
    """Writes data/plans/<phase>/ by params.yaml and the results of the phases before.

    With an entry, such as one adapted retriever, data/plans/<phase>/<entry>/ alone.
    """
    params = load_params(paths.PARAMS)
    code = Path(__file__).parents[1]
    plans = PHASES[phase](Context.read(params, code, Path(), paths.LOOKED / "weights.json"))
    folder = paths.PLANS / phase / entry
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, plan in plans.items():
        if name.startswith(f"{entry}/") or not entry:
            plan.save(paths.PLANS / phase / f"{name}.json")


if __name__ == "__main__":
    run(main)

"""What a training stage is asked to train in this process.

For a seed that no system asks for that is nothing, and it says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pipeline.config.plans import TrainingPlan
from pipeline.files import read_json, replacing_folder
from stages.elsewhere import trained_elsewhere
from stages.ranks import is_first, started
from stages.run import given

P = TypeVar("P", bound=TrainingPlan)


def load_asked(kind: type[P], path: Path, output: Path) -> P | None:
    """The plan in ``path``; None where it is of a model that nothing asks for, whose folder
    ``output`` is left empty, or where a cluster has trained it into that folder.

    Raises:
        EarwitnessError: see :meth:`pipeline.config.plans.Plan.load`, or :func:`trained_elsewhere`.
    """
    values = read_json(path, "run `dvc repro plan`")
    if not (isinstance(values, dict) and values.get("unasked")):
        plan = given(kind, path)
        alone = started() is None  # one of several trains here with the others
        return None if alone and trained_elsewhere(plan, path, output) else plan
    if not is_first():
        return None
    with replacing_folder(output):
        pass
    print(f"{output.parent.name}: not trained with seed {output.name}, as no system asks for it")
    return None

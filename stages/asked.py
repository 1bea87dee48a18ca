"""What a training stage does for a seed that no system asks for: nothing, and it says so."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pipeline.config.plans import Plan
from pipeline.files import read_json, replacing_folder
from stages.ranks import is_first
from stages.run import given

P = TypeVar("P", bound=Plan)


def load_asked(kind: type[P], path: Path, output: Path) -> P | None:
    """The plan in ``path``; None where it is of a model that nothing asks for, whose folder
    ``output`` is left empty.

    Raises:
        EarwitnessError: see :meth:`pipeline.config.plans.Plan.load`.
    """
    values = read_json(path, "run `dvc repro plan`")
    if not (isinstance(values, dict) and values.get("unasked")):
        return given(kind, path)
    if not is_first():
        return None
    with replacing_folder(output):
        pass
    print(f"{output.parent.name}: not trained with seed {output.name}, as no system asks for it")
    return None

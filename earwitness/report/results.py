"""Scores and tables, as evaluation and training write them."""

from __future__ import annotations

import csv
from pathlib import Path

from earwitness.interval_files import HINT
from pipeline.errors import EarwitnessError
from pipeline.files import read_json

Rows = list[dict[str, str]]


def read_scores(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """``<dataset>/<system>.json`` below ``folder``, systems before yardsticks.

    Raises:
        EarwitnessError: a file is not JSON, or not in form.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for path in sorted(folder.glob("*/*.json"), key=lambda p: (p.stem.startswith("yard"), p)):
        values = read_json(path, HINT)
        if not isinstance(values, dict):
            raise EarwitnessError(f"{path}: has no scores; {HINT}")
        found.setdefault(path.parent.name, {})[path.stem] = values
    return dict(sorted(found.items()))


def read_rows(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))

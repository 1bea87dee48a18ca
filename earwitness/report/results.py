"""Scores, intervals and tables, as evaluation and training write them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pipeline.files import read_json

Rows = list[dict[str, str]]


def read_scores(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """``<dataset>/<system>.json`` below ``folder``, systems before yardsticks."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for path in sorted(folder.glob("*/*.json"), key=lambda p: (p.stem.startswith("yard"), p)):
        values = read_json(path, "remove it, and run `dvc repro`")
        found.setdefault(path.parent.name, {})[path.stem] = values
    return dict(sorted(found.items()))


def read_intervals(path: Path) -> dict[str, Any]:
    """``intervals/<dataset>/<system>.json``; empty where there is none."""
    return read_json(path, "remove it, and run `dvc repro`") if path.is_file() else {}


def read_rows(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))

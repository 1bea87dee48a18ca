"""How far a score's 95 % interval reaches, for people: the number behind ±."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.files import read_json


def half_intervals(root: Path, place: str) -> dict[str, float]:
    """Metric → half of its interval's width; those without an interval are not in it.

    Args:
        root: the repository.
        place: ``<dataset>/<system>``, or ``retrieval/<dataset>/<system>``.

    Raises:
        EarwitnessError: the file is there and is not JSON.
    """
    path = root / "intervals" / f"{place}.json"
    if not path.is_file():
        return {}
    values = read_json(path, "remove it, and run `dvc repro`")
    metrics = values.get("metrics") if isinstance(values, Mapping) else None
    found = {}
    for name, own in metrics.items() if isinstance(metrics, Mapping) else ():
        low, high = _limit(own, "low"), _limit(own, "high")
        if low is not None and high is not None:
            found[str(name)] = (high - low) / 2
    return found


def _limit(own: Any, key: str) -> float | None:
    value = own.get(key) if isinstance(own, Mapping) else None
    return float(value) if isinstance(value, int | float) else None

"""How far a score's 95 % interval reaches, for people: the number behind ±."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from earwitness.interval_files import read_around


def half_intervals(root: Path, place: str) -> dict[str, float]:
    """Metric → half of its interval's width; those without an interval are not in it.

    Args:
        root: the repository.
        place: ``<dataset>/<system>``, or ``retrieval/<dataset>/<system>``.

    Raises:
        EarwitnessError: see :func:`earwitness.interval_files.read_around`.
    """
    around = read_around(root / "intervals" / f"{place}.json")
    found = {}
    for name, own in around.metrics.items() if around else ():
        low, high = _limit(own, "low"), _limit(own, "high")
        if low is not None and high is not None:
            found[name] = (high - low) / 2
    return found


def _limit(own: Mapping[str, Any], key: str) -> float | None:
    value = own.get(key)
    return float(value) if isinstance(value, int | float) else None

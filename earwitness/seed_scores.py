"""A system's scores with one seed; ``metrics/`` has the mean over all that it is made with."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from earwitness.interval_files import read_around
from pipeline.errors import EarwitnessError
from pipeline.files import read_json


def seed_scores(root: Path, place: str, seed: int) -> dict[str, float]:
    """Metric → value; empty where the test set was not scored.

    Args:
        root: the repository.
        place: ``<dataset>/<system>``, or ``retrieval/<dataset>/<system>``.
    """
    found = _numbers(_read(root / "metrics" / f"{place}.json"))
    around = None
    with suppress(EarwitnessError):
        around = read_around(root / "intervals" / f"{place}.json")
    for name, own in around.metrics.items() if found and around else ():
        by_seed = own.get("by_seed")
        value = by_seed.get(str(seed)) if isinstance(by_seed, dict) else None
        found |= _numbers({name: value}) if name in found else {}
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path, "")
    except EarwitnessError:
        return {}
    return values if isinstance(values, dict) else {}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: own for name, own in values.items() if isinstance(own, int | float)}

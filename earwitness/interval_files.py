"""``intervals/<dataset>/<system>.json``: what is around a system's mean scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import EarwitnessError
from pipeline.files import read_json

HINT = "remove it, and run `dvc repro`"


@dataclass(frozen=True)
class Around:
    """As evaluation and ranking write it."""

    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)  # metric → low, high, sd …
    seeds: list[Any] = field(default_factory=list)
    clips: Any = None  # how many
    resamples: Any = None  # of the intervals


def read_around(path: Path, hint: str = HINT) -> Around | None:
    """Of one system on one test set; None where there is no such file.

    Raises:
        EarwitnessError: the file is not JSON, or not in form; ``hint`` says what to do.
    """
    if not path.exists():
        return None
    values = read_json(path, hint)
    metrics = values.get("metrics") if isinstance(values, dict) else None
    if not isinstance(metrics, dict) or not all(isinstance(own, dict) for own in metrics.values()):
        raise EarwitnessError(f"{path}: has no metrics; {hint}")
    seeds = values.get("seeds")
    return Around(
        metrics,
        seeds if isinstance(seeds, list) else [],
        values.get("clips"),
        values.get("resamples"),
    )

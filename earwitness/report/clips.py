"""Part 3 of the page: every clip of the test sets, with each system's caption and its scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from earwitness.report.columns import columns
from earwitness.report.run import Run
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError
from pipeline.metrics.yardsticks import PREFIX
from pipeline.tables import Row, read_rows

NO_METRIC = ("seed", "clip_id", "caption")
DIGITS = 4


def data(run: Run) -> Any:
    """One entry a test set; None where no dataset is captioned or searched."""
    sets = [_dataset(run, name, manifest) for name, manifest in run.manifests.items()]
    return {"datasets": sets} if sets else None


def _dataset(run: Run, name: str, manifest: Manifest) -> dict[str, Any]:
    """Captions and scores are lists in the order of ``clips``, by seed and by metric."""
    clips = run.clips(name)
    order = {clip.clip_id: at for at, clip in enumerate(clips)}
    tables = {
        system: path
        for system, path in run.tables("scores", name, run.params.systems).items()
        if system in run.params.systems or system.startswith(PREFIX)
    }
    systems = [_system(system, path, order) for system, path in tables.items()]
    metrics = (name for system in systems for own in system["scores"].values() for name in own)
    return {
        "name": name,
        "blind": manifest.blind,
        "synthetic": manifest.synthetic,
        "clips": [
            [clip.clip_id, round(clip.duration, 2), list(clip.events), list(clip.captions)]
            for clip in clips
        ],
        "metrics": columns(metrics),
        "systems": systems,
    }


def _system(name: str, path: Path, order: Mapping[str, int]) -> dict[str, Any]:
    captions: dict[str, list[str | None]] = {}
    scores: dict[str, dict[str, list[float | None]]] = {}
    for row in read_rows(path, NO_METRIC):
        seed, at = row.values["seed"], _place(path, row, order)
        captions.setdefault(seed, [None] * len(order))[at] = row.values["caption"]
        own = scores.setdefault(seed, {})
        for metric in row.values.keys() - {*NO_METRIC}:
            if value := row.values[metric]:
                values = own.setdefault(metric, [None] * len(order))
                values[at] = _score(path, row, metric, value)
    return {
        "name": name,
        "yardstick": name.startswith(PREFIX),
        "captions": captions,
        "scores": {seed: dict(sorted(found.items())) for seed, found in scores.items()},
    }


def _place(path: Path, row: Row, order: Mapping[str, int]) -> int:
    clip = row.values["clip_id"]
    if clip not in order:
        raise EarwitnessError(
            f"{path}: line {row.line}: clip {clip!r} is not in the test set; run `dvc repro`"
        )
    return order[clip]


def _score(path: Path, row: Row, metric: str, value: str) -> float:
    try:
        return round(float(value), DIGITS)
    except ValueError:
        raise EarwitnessError(
            f"{path}: line {row.line}: {metric} is {value!r}, and no number; run `dvc repro`"
        ) from None

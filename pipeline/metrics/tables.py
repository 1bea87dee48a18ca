"""Files and tables of scores: predictions as they are read, scores as they are written."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import EarwitnessError
from pipeline.files import replacing, write_json
from pipeline.metrics.intervals import Interval, Intervals, as_json
from pipeline.metrics.over_seeds import BySeed, mean_over_seeds
from pipeline.metrics.results import Evaluated
from pipeline.metrics.types import Values
from pipeline.tables import read_rows

_COUNTS = ("N", "vocabulary", "mean_length")  # all else is printed × 100, as in papers


def read_predictions(
    path: Path, clip_ids: Sequence[str], seeds: Sequence[int], hint: str
) -> dict[int, list[str]]:
    """A system's captions (columns seed, clip_id, caption), by seed, in the order of ``clip_ids``.

    Args:
        seeds: those that must be there; others are left out.

    Raises:
        EarwitnessError: see :func:`pipeline.tables.read_rows`; or a clip occurs twice, is missing
            or is not of this dataset. ``hint`` says what to run.
    """
    captions: dict[str, dict[str, str]] = {str(seed): {} for seed in seeds}
    known = set(clip_ids)
    for row in read_rows(path, ["seed", "clip_id", "caption"]):
        name, own = row.values["clip_id"], captions.get(row.values["seed"], {})
        if name in own:
            raise EarwitnessError(f"{path}: clip {name!r} occurs twice; {hint}")
        if name not in known:
            raise EarwitnessError(f"{path}: clip {name!r} is not in the dataset's split; {hint}")
        own[name] = row.values["caption"]
    for seed, own in captions.items():
        if missing := [name for name in clip_ids if name not in own]:
            raise EarwitnessError(
                f"{path}: no caption of {missing[0]!r} (and {len(missing) - 1} more clips) with "
                f"seed {seed}; {hint}"
            )
    return {int(seed): [own[name] for name in clip_ids] for seed, own in captions.items()}


class ScoreFolders(NamedTuple):
    """Where a dataset's scores are written; each gets a file a system."""

    metrics: Path  # flat JSON, the means over seeds
    intervals: Path  # JSON, what is around the means
    clips: Path  # CSV, per-clip values


def write_scores(
    systems: Mapping[str, BySeed],
    found: Mapping[str, Intervals],
    clip_ids: Sequence[str],
    folders: ScoreFolders,
    resamples: int = 0,
) -> None:
    """The metrics, intervals and per-clip values of each system.

    Args:
        systems: by seed, in the order of ``clip_ids``.
        found: the systems' intervals; a blind set has none.
        resamples: that the intervals were made with.
    """
    for folder in folders:  # which DVC expects, also where there is no system
        folder.mkdir(parents=True, exist_ok=True)
    for name, seeds in systems.items():
        means = mean_over_seeds([own.scores.corpus for own in seeds.values()])
        write_json(folders.metrics / f"{name}.json", means)
        _write_clips_of_seeds(folders.clips / f"{name}.csv", seeds, clip_ids)
    for name, own in found.items():
        values = as_json(own, len(clip_ids), [*systems[name]], resamples)
        write_json(folders.intervals / f"{name}.json", values)
    remove_others(folders.metrics, "json", systems)
    remove_others(folders.clips, "csv", systems)
    remove_others(folders.intervals, "json", found)


def remove_others(folder: Path, suffix: str, names: Collection[str]) -> None:
    """The files of systems that no longer exist."""
    for path in folder.glob(f"*.{suffix}"):
        if path.stem not in names:
            path.unlink()


def _write_clips_of_seeds(path: Path, seeds: BySeed, clip_ids: Sequence[str]) -> None:
    """One row a clip, for each seed in turn; a metric that a seed lacks is empty there."""
    labels: dict[str, list[str]] = {
        "seed": [str(seed) for seed in seeds for _ in clip_ids],
        "clip_id": [*clip_ids] * len(seeds),
        "caption": [text for own in seeds.values() for text in own.captions],
    }
    absent = np.full(len(clip_ids), np.nan)
    metrics = dict.fromkeys(metric for own in seeds.values() for metric in own.scores.clips)
    values = {
        metric: np.concatenate([own.scores.clips.get(metric, absent) for own in seeds.values()])
        for metric in metrics
    }
    write_clips(path, labels, values)


def write_clips(
    path: Path, labels: Mapping[str, Sequence[str]], values: Mapping[str, Values]
) -> None:
    """One row a clip: its labels, then each metric's value at full precision.

    A value that could not be made (NaN) is an empty cell.
    """
    columns: list[Sequence[object]] = [*labels.values(), *map(_cells, values.values())]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*labels, *values])
        writer.writerows(zip(*columns, strict=True))


def _cells(values: Values) -> list[object]:
    return ["" if value != value else value for value in values.tolist()]


def table(systems: Mapping[str, BySeed], found: Mapping[str, Intervals], result: Evaluated) -> str:
    """A column a system, scores × 100; below it the metrics that are missing, and why."""
    values = {
        name: mean_over_seeds([own.scores.corpus for own in seeds.values()])
        for name, seeds in systems.items()
    }
    metrics = [*dict.fromkeys(key for own in values.values() for key in own)]
    width = max(map(len, metrics)) + 2
    rows = {
        metric: [_cell(metric, own.get(metric), found[name]) for name, own in values.items()]
        for metric in metrics
    }
    widest = zip(*rows.values(), strict=True)
    columns = [max(len(name), *map(len, cells)) for name, cells in zip(values, widest, strict=True)]
    lines = [" " * width + _line(values, columns)]
    lines += [f"{metric:<{width}}{_line(cells, columns)}" for metric, cells in rows.items()]
    lines += [f"left out: {metric}: {reason}" for metric, reason in sorted(result.missing.items())]
    lines += [f"incomplete: {metric}: {why}" for metric, why in sorted(result.incomplete.items())]
    if any("±" in cell for cells in rows.values() for cell in cells):
        lines.append(PLUS_MINUS)
    return "\n".join([*lines, f"tokens: {result.tokenizer}"])


PLUS_MINUS = "±: half of the 95 % interval, over clips, and over seeds where there are several"


def _line(cells: Iterable[str], columns: Sequence[int]) -> str:
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, columns, strict=True))


def _cell(metric: str, value: float | None, found: Intervals) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    scale = 1 if metric in _COUNTS else 100
    return f"{value * scale:.2f}{plus_minus(found.get(metric), scale)}"


def plus_minus(own: Interval | None, scale: float) -> str:
    """`` ±1.23``, or nothing where a metric has no interval."""
    if own is None or own.low is None or own.high is None:
        return ""
    return f" ±{(own.high - own.low) / 2 * scale:.2f}"

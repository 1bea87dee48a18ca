"""Files and tables of scores: predictions as they are read, scores as they are written."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import EarwitnessError
from pipeline.files import replacing, write_json
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


def write_scores(
    result: Evaluated,
    clip_ids: Sequence[str],
    captions: Mapping[str, Sequence[str]],
    metrics: Path,
    clips: Path,
) -> None:
    """One flat JSON a system in ``metrics``, and its per-clip values as CSV in ``clips``.

    Args:
        captions: by system; N each, in the order of ``clip_ids``.
    """
    for folder in (metrics, clips):  # which DVC expects, also where there is no system
        folder.mkdir(parents=True, exist_ok=True)
    for name, scores in result.scores.items():
        rounded = {
            key: value if isinstance(value, int) else round(value, 6)
            for key, value in scores.corpus.items()
        }
        write_json(metrics / f"{name}.json", rounded)
        labels = {"clip_id": clip_ids, "caption": captions[name]}
        write_clips(clips / f"{name}.csv", labels, scores.clips)
    for path in (*metrics.glob("*.json"), *clips.glob("*.csv")):
        if path.stem not in result.scores:  # of a system that no longer exists
            path.unlink()


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


def table(result: Evaluated) -> str:
    """A column a system, scores × 100; below it the metrics that are missing, and why."""
    names = [*result.scores]
    metrics = [*dict.fromkeys(key for name in names for key in result.scores[name].corpus)]
    width = max(map(len, metrics)) + 2
    columns = [max(len(name), 8) for name in names]
    lines = [" " * width + "  ".join(f"{n:>{c}}" for n, c in zip(names, columns, strict=True))]
    for metric in metrics:
        cells = [_cell(metric, result.scores[name].corpus.get(metric)) for name in names]
        line = "  ".join(f"{cell:>{c}}" for cell, c in zip(cells, columns, strict=True))
        lines.append(f"{metric:<{width}}{line}")
    lines += [f"left out: {metric}: {reason}" for metric, reason in sorted(result.missing.items())]
    lines += [f"incomplete: {metric}: {why}" for metric, why in sorted(result.incomplete.items())]
    return "\n".join([*lines, f"tokens: {result.tokenizer}"])


def _cell(metric: str, value: float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    return f"{value:.2f}" if metric in _COUNTS else f"{value * 100:.2f}"

"""The scores of a dataset's systems as files and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.files import write_json
from pipeline.metrics.evaluate import Evaluated
from pipeline.metrics.tables import write_clips

_COUNTS = ("N", "vocabulary", "mean_length")  # all else is printed × 100, as papers do


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
    for name, scores in result.scores.items():
        rounded = {
            key: value if isinstance(value, int) else round(value, 6)
            for key, value in scores.corpus.items()
        }
        write_json(metrics / f"{name}.json", rounded)
        labels = {"clip_id": clip_ids, "caption": captions[name]}
        write_clips(clips / f"{name}.csv", labels, scores.clips)
    for path in (*metrics.glob("*.json"), *clips.glob("*.csv")):
        if path.stem not in result.scores:  # of a system that is no more
            path.unlink()


def table(result: Evaluated) -> str:
    """All systems, one a column; scores × 100, and below what is missing and why."""
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
    return "\n".join([*lines, f"tokens: {result.tokenizer}"])


def _cell(metric: str, value: float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    return f"{value:.2f}" if metric in _COUNTS else f"{value * 100:.2f}"

"""Part 1 of the page: systems × metrics, of captioning and of retrieval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from earwitness.interval_files import Around, read_around
from earwitness.report.columns import columns
from earwitness.report.results import read_scores
from earwitness.report.run import Run
from pipeline.metrics.yardsticks import PREFIX


def data(run: Run) -> Any:
    """One table a test set and kind; None where nothing is scored."""
    params = run.params
    tables = [
        *_tables("captioning", run.metrics, run.intervals, params.test_sets, params.systems),
        *_tables(
            "retrieval", run.metrics / "retrieval", run.intervals / "retrieval",
            params.retrieval_test_sets, params.retrieval_systems,
        ),
    ]  # fmt: skip
    return {"tables": tables} if tables else None


def _tables(
    kind: str, metrics: Path, intervals: Path, datasets: Iterable[str], systems: Iterable[str]
) -> list[dict[str, Any]]:
    """Those of the datasets and systems of today's parameters, and the yardsticks."""
    found = read_scores(metrics)
    tables = []
    for dataset in datasets:
        own = found.get(dataset, {})
        rows = [_row(name, own[name], intervals / dataset) for name in systems if name in own]
        rows += [
            _row(name, own[name], intervals / dataset) for name in own if name.startswith(PREFIX)
        ]
        if rows:
            names = (name for row in rows for name in row["values"])
            table = {"kind": kind, "dataset": dataset, "columns": columns(names), "rows": rows}
            tables.append(table)
    return tables


def _row(name: str, values: Mapping[str, float], intervals: Path) -> dict[str, Any]:
    around = read_around(intervals / f"{name}.json") or Around()
    return {
        "system": name,
        "yardstick": name.startswith(PREFIX),
        "values": values,
        "intervals": around.metrics,
        "seeds": around.seeds,
        "clips": around.clips,
        "resamples": around.resamples,
    }

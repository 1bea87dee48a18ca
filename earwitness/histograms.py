"""How scores are spread over clips, and ranks over queries: small tables for ``dvc plots``.

One CSV a test set and score, ``data/histograms/<dataset>/<score>.csv``, and one of ranks,
``data/histograms/retrieval/<dataset>/rank.csv``, with the columns ``system``, ``value`` (what a bin
begins with) and ``percent`` (of clips or queries; of all seeds together). The bins are the same in
every run, so that ``dvc plots diff`` lays one over another.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from earwitness.report.run import Run
from pipeline.errors import EarwitnessError
from pipeline.files import replacing
from pipeline.tables import read_header, read_rows

COLUMNS = ("system", "value", "percent")
# score → width and number of its bins; the first also has what is below it, the last what is above
BINS = {"cider_d": (0.25, 12), "spider": (0.125, 12), "sbert": (0.1, 10), "fense": (0.1, 10)}
RANKS = (1, 2, 3, 4, 6, 11, 21, 51, 101, 201, 501)  # where bins begin


def write_histograms(run: Run, folder: Path) -> None:
    """All that the run's tables give, into an empty folder."""
    params = run.params
    for dataset in params.test_sets:
        tables = run.tables("scores", dataset, params.systems)
        for metric, edges in score_bins(map(read_header, tables.values())).items():
            values = {system: numbers(path, metric) for system, path in tables.items()}
            write_histogram(folder / dataset / f"{metric}.csv", values, edges)
    for dataset in params.retrieval_test_sets:
        tables = run.tables("rankings", dataset, params.retrieval_systems)
        ranks = {system: numbers(path, "rank") for system, path in tables.items()}
        write_histogram(folder / "retrieval" / dataset / "rank.csv", ranks, RANKS)


def score_bins(headers: Iterable[Sequence[str]]) -> dict[str, list[float]]:
    """The scores that have a histogram, and where their bins begin."""
    found = {}
    for name in dict.fromkeys(chain.from_iterable(headers)):
        kind = next((kind for kind in BINS if name == kind or name.startswith(f"{kind}_")), None)
        if kind is not None and "_fl" not in name:
            width, count = BINS[kind]
            found[name] = [round(width * bin, 6) for bin in range(count)]
    return found


def numbers(path: Path, column: str) -> list[float]:
    """Those of a column that are there: a blind set has no ranks, a clip maybe no score.

    Raises:
        EarwitnessError: the file is no table, or has something else than a number there.
    """
    rows = [row for row in read_rows(path, ()) if row.values.get(column)]
    found = []
    for row in rows:
        try:
            found.append(float(row.values[column]))
        except ValueError:
            raise EarwitnessError(
                f"{path}: line {row.line}: {column} is {row.values[column]!r}, and no number; run "
                "`dvc repro`"
            ) from None
    return found


def write_histogram(
    path: Path, values: Mapping[str, Sequence[float]], begins: Sequence[float]
) -> None:
    """One row a system and bin; nothing where no system has a value."""
    rows = []
    for system, own in values.items():
        if not own:
            continue
        bins = np.searchsorted(begins, np.asarray(own) + 1e-9, side="right") - 1
        counts = np.bincount(np.clip(bins, 0, None), minlength=len(begins))
        shares = 100 * counts / len(own)
        rows += [
            (system, f"{begin:g}", f"{share:.4g}")
            for begin, share in zip(begins, shares.tolist(), strict=True)
        ]
    if rows:
        with replacing(path) as file, file.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *rows])

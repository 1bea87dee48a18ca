"""A table as it was made: all that is shown of it, and all that it was made with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from earwitness.summary import LABELS
from earwitness.tables.reading import NamedTable, TableRow, metric_of
from earwitness.tables.results import RowResult
from pipeline.config.section import Section, nearest, parse_section
from pipeline.errors import EarwitnessError
from pipeline.files import read_json
from pipeline.metrics.names import direction

HINT = "write it again: `earwitness table NAME --write`"


class MadeRow(Section):
    """One row: the paper's numbers, and ours where there are any."""

    label: str
    paper: dict[str, float] = Field(default_factory=dict)  # column → the paper's number
    result: RowResult | None = None
    stale: str = ""  # why it is not what would be made today


class MadeTable(Section):
    """A table on a dataset; what :mod:`earwitness.tables.formats` prints."""

    table: str
    about: str
    note: str
    dataset: str
    paper_dataset: str | None  # of the paper's numbers
    recipe: str
    columns: dict[str, str]  # as printed → metric
    base: str | None
    seeds: tuple[int, ...]
    settings: dict[str, Any] = Field(default_factory=dict)  # in a file: those of all rows
    rows: dict[str, MadeRow]

    def made(self) -> dict[str, RowResult]:
        """Row → its result, where it has one."""
        return {name: row.result for name, row in self.rows.items() if row.result is not None}

    def metric(self, column: str) -> str:
        """A column's metric as it was made; see :func:`earwitness.tables.reading.metric_of`."""
        there = [name for result in self.made().values() for name in result.metrics]
        return metric_of(self.columns[column], dict.fromkeys(there)) or self.columns[column]

    def best(self, column: str) -> str | None:
        """The row with the best of our means; None: less than two rows, or no order."""
        metric = self.metric(column)
        means = {n: r.metrics[metric].mean for n, r in self.made().items() if metric in r.metrics}
        if len(means) < 2 or direction(metric) == 0:
            return None
        return max(means, key=lambda name: direction(metric) * means[name])


def scale(metric: str) -> int:
    """By what it is printed: shares × 100, as in papers; counts, lengths and ranks as they are."""
    return 1 if metric in ("vocabulary", "mean_length") or metric.endswith("_rank") else 100


def make_table(
    named: NamedTable,
    rows: Mapping[str, TableRow],
    dataset: str,
    seeds: Sequence[int],
    results: Mapping[str, tuple[RowResult, str]],
    metrics: Sequence[str] = (),
) -> MadeTable:
    """The table of what is there.

    Args:
        results: row → its result, and why it is stale.
        metrics: the columns; none: the paper's.

    Raises:
        EarwitnessError: a metric that nothing here has.
    """
    table = named.table
    source = _paper_dataset(rows.values(), dataset)
    printed = list(table.columns)
    made_rows = {}
    for name, row in rows.items():
        numbers = row.paper.get(source or "", (None,) * len(printed))
        known = dict(zip(printed, numbers, strict=True))
        result, stale = results.get(name, (None, ""))
        made_rows[name] = MadeRow(
            label=row.label,
            paper={column: value for column, value in known.items() if value is not None},
            result=result,
            stale=stale,
        )
    return MadeTable(
        table=named.name,
        about=named.about,
        note=" ".join(table.note.split()),
        dataset=dataset,
        paper_dataset=source,
        recipe=table.recipe,
        columns=_columns(table.columns, metrics, made_rows.values()),
        base=table.base if table.base in made_rows else None,
        seeds=tuple(seeds),
        rows=made_rows,
    )


def read_made(path: Path) -> MadeTable:
    """A table of ``tables/``.

    Raises:
        EarwitnessError: it is not there, or not in form.
    """
    table = parse_section(MadeTable, read_json(path, HINT), str(path))
    rows = {
        name: row.model_copy(update={"result": _with_settings(row.result, table.settings)})
        for name, row in table.rows.items()
    }
    return table.model_copy(update={"rows": rows, "settings": {}})


def written(table: MadeTable) -> dict[str, Any]:
    """As a file has it: settings of all rows once, and of the code its digest alone."""
    values = table.model_dump(mode="json")
    results = [row["result"] for row in values["rows"].values() if row["result"]]
    first = results[0]["settings"] if results else {}
    shared = {
        key: value
        for key, value in first.items()
        if all(key in each["settings"] and each["settings"][key] == value for each in results)
    }
    for each in results:
        each["settings"] = {k: v for k, v in each["settings"].items() if k not in shared}
        each["code"] = {}
    return values | {"settings": shared}


def _with_settings(result: RowResult | None, shared: Mapping[str, Any]) -> RowResult | None:
    if result is None:
        return None
    return result.model_copy(update={"settings": {**shared, **result.settings}})


def _paper_dataset(rows: Iterable[TableRow], dataset: str) -> str | None:
    """Whose numbers stand beside ours: the same dataset's, else the paper's first."""
    there = dict.fromkeys(name for row in rows for name in row.paper)
    return dataset if dataset in there else next(iter(there), None)


def _columns(
    printed: Mapping[str, str], metrics: Sequence[str], rows: Iterable[MadeRow]
) -> dict[str, str]:
    if not metrics:
        return dict(printed)
    labels = {metric: label for label, metric in printed.items()}
    there = {name for row in rows if row.result for name in row.result.metrics}
    for name in metrics:
        if name not in labels and metric_of(name, there) is None:
            raise EarwitnessError(
                f"--metrics: no metric '{name}'{nearest(name, [*labels, *there])}"
            )
    return {labels.get(name, LABELS.get(name, name)): name for name in metrics}

"""A table as text, Markdown, LaTeX, CSV and JSON.

Numbers are × 100, as in papers, but for counts; CSV and JSON have them as they were measured, and
the paper's too. A row's deviation is over its seeds.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from rich.cells import cell_len

from earwitness.tables.made import MadeRow, MadeTable, scale, written
from earwitness.tables.results import RowMetric, RowResult

NOTHING = "–"
CLEAR, STALE = "*", "†"
ESCAPES = {"\\": r"\textbackslash{}", "±": r"$\pm$", "×": r"$\times$", "–": "--", "†": r"$\dagger$"}
ESCAPES |= {each: f"\\{each}" for each in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\^{}"}


class Cell(NamedTuple):
    """One number of ours, and the paper's."""

    ours: str
    paper: str
    best: bool
    clear: bool

    def shown(self, mark: str = "{}", star: str = CLEAR) -> str:
        """In one cell; ``mark`` is what the best stands in."""
        ours = mark.format(self.ours) if self.best else self.ours
        paper = f" ({self.paper})" if self.paper else ""
        return f"{ours}{star if self.clear else ''}{paper}"


def text(table: MadeTable) -> str:
    """For a terminal, with the legend below."""
    lines = [["", *table.columns]]
    for name, row in table.rows.items():
        cells = [_cell(table, name, column) for column in table.columns]
        lines.append([_label(row), *(cell.shown("◂ {}") for cell in cells)])
    widths = [max(cell_len(line[n]) for line in lines) for n in range(len(lines[0]))]
    shown = ["  ".join(map(_padded, line, widths)).rstrip() for line in lines]
    shown.insert(1, "─" * (sum(widths) + 2 * len(widths) - 2))
    return "\n".join([table.about, "", *shown, "", *legend(table, "◂")]) + "\n"


def markdown(table: MadeTable) -> str:
    """With the legend below; what stands in docs/results.md."""
    lines = [f"| | {' | '.join(table.columns)} |", "|---|" + "---:|" * len(table.columns)]
    for name, row in table.rows.items():
        cells = [_cell(table, name, column).shown("**{}**", "\\*") for column in table.columns]
        lines.append(f"| {_label(row).replace('|', '&#124;')} | {' | '.join(cells)} |")
    words = [line.replace(f"{CLEAR}:", f"\\{CLEAR}:") for line in legend(table, "Bold")]
    return "\n".join([*lines, "", *words]) + "\n"


def latex(table: MadeTable) -> str:
    """A ``tabular``; the legend is a comment below it."""
    head = " & ".join(["", *map(_escaped, table.columns)])
    lines = [f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}", "\\hline", f"{head} \\\\"]
    lines.append("\\hline")
    for name, row in table.rows.items():
        cells = [_escaped(_label(row))]
        for cell in (_cell(table, name, column) for column in table.columns):
            cells.append(cell._replace(ours=_escaped(cell.ours)).shown("\\textbf{{{}}}"))
        lines.append(f"{' & '.join(cells)} \\\\")
    lines += ["\\hline", "\\end{tabular}", *(f"% {line}" for line in legend(table, "Bold"))]
    return "\n".join(lines) + "\n"


def csv_text(table: MadeTable) -> str:
    """One line a row and metric; means, deviations and intervals as they were measured."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    seeds = [f"seed_{seed}" for seed in table.seeds]
    writer.writerow(
        ["row", "label", "metric", "mean", "sd", "low", "high", *seeds, "paper",
         "difference", "p", "clear", "stale"]
    )  # fmt: skip
    for name, row in table.rows.items():
        for column in table.columns:
            metric = table.metric(column)
            found = row.result.metrics.get(metric) if row.result else None
            ours = found or RowMetric(mean=0.0)
            values = [ours.mean, ours.sd, ours.low, ours.high] if found else [None] * 4
            values += [ours.by_seed.get(str(seed)) for seed in table.seeds]
            paper = row.paper.get(column)
            values.append(None if paper is None else round(paper / scale(metric), 6))
            against = row.result.against.get(metric) if row.result else None
            if against:
                values += [against.difference, against.p, int(against.clear)]
            else:
                values += [None] * 3
            cells = ["" if value is None else value for value in values]
            writer.writerow([name, row.label, metric, *cells, row.stale])
    return stream.getvalue()


def json_text(table: MadeTable) -> str:
    """All of it, with what it was made with; what ``tables/*.json`` hold."""
    return json.dumps(written(table), indent=1, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[MadeTable], str]] = {
    "text": text, "markdown": markdown, "latex": latex, "csv": csv_text, "json": json_text,
}  # fmt: skip


def legend(table: MadeTable, best: str) -> list[str]:
    """What the marks mean, and what the table was made with."""
    made = table.made()
    lines = [table.note] if table.note else []
    if table.paper_dataset and any(row.paper for row in table.rows.values()):
        lines.append(f"In brackets: the paper's number, on {table.paper_dataset}.")
    if not made:
        return [*lines, "None of our rows is made yet."]
    if any(each.sd is not None for result in made.values() for each in result.metrics.values()):
        lines.append(f"±: the deviation over seeds {_listed(table.seeds)}.")
    if any(table.best(column) for column in table.columns):
        lines.append(f"{best}: the best of ours in its column.")
    lines += _tested(table, made)
    if stale := [row.label for row in table.rows.values() if row.stale]:
        lines.append(f"{STALE}: made with other settings or code than today's ({len(stale)} rows).")
    return [*lines, *_made_with(table, made)]


def number(metric: str, value: float) -> str:
    """As it is printed: × 100, but for counts."""
    return f"{scale(metric) * value:.1f}"


def _tested(table: MadeTable, made: Mapping[str, RowResult]) -> list[str]:
    """What the star means, where anything was compared."""
    if table.base is None or not any(result.against for result in made.values()):
        return []
    noise = "over clips and seeds" if len(table.seeds) > 1 else "over clips, of one training each"
    return [
        f"{CLEAR}: differs from “{table.rows[table.base].label}” by more than the noise (paired "
        f"permutation test {noise}, corrected for the rows: p < 0.05)."
    ]


def _made_with(table: MadeTable, made: Mapping[str, RowResult]) -> list[str]:
    def each(values: list[str]) -> str:
        return ", ".join(dict.fromkeys(values))

    dates = sorted(result.date[:10] for result in made.values())
    days = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    clips = each([str(result.clips) for result in made.values()])
    return [
        f"Made by `earwitness table {table.table} {table.dataset}` (recipe {table.recipe}, N = "
        f"{clips}, seeds {_listed(table.seeds)}; {days}, code "
        f"{each([result.revision for result in made.values()])}, "
        f"{each([result.machine for result in made.values()])})."
    ]


def _cell(table: MadeTable, name: str, column: str) -> Cell:
    row, metric = table.rows[name], table.metric(column)
    found = row.result.metrics.get(metric) if row.result else None
    compared = row.result is not None and table.base is not None
    against = row.result.against.get(metric) if row.result and compared else None
    return Cell(
        NOTHING if found is None else _ours(metric, found),
        f"{row.paper[column]:.1f}" if column in row.paper else "",
        best=found is not None and table.best(column) == name,
        clear=against is not None and against.clear,
    )


def _ours(metric: str, found: RowMetric) -> str:
    spread = "" if found.sd is None else f" ± {number(metric, found.sd)}"
    return f"{number(metric, found.mean)}{spread}"


def _label(row: MadeRow) -> str:
    return f"{row.label} {STALE}" if row.stale else row.label


def _listed(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds))


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))


def _escaped(words: str) -> str:
    return "".join(ESCAPES.get(each, each) for each in words)

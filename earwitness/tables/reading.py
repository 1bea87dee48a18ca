"""The papers' tables as data: ``recipes/tables/*.yaml``, one file a table.

A row names a system of a recipe, or sets what differs from the recipe; its numbers are the paper's,
as printed but × 100.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from pipeline.config.names import NAME
from pipeline.config.section import Section, known, nearest, parse_section
from pipeline.errors import EarwitnessError
from pipeline.files import read_text
from pipeline.yaml_files import read_yaml

FOLDER = "tables"  # below the recipes
HINT = "see docs/tables.md for its form"
WIDTH = 100  # columns of the list of tables

Filled = Annotated[str, Field(min_length=1)]


class TableRow(Section):
    """One row; without a system it is the paper's alone."""

    label: Filled  # as printed
    system: str | None = None  # of the recipe's systems
    retrieval_system: str | None = None  # of its retrieval systems
    set: dict[str, Any] = Field(default_factory=dict)  # dotted settings over the recipe's
    paper: dict[str, tuple[float | None, ...]] = Field(default_factory=dict)  # by dataset
    datasets: tuple[str, ...] = ()  # on which it can be made; none: on all of the table's

    @model_validator(mode="after")
    def _one_kind(self) -> TableRow:
        if self.system and self.retrieval_system:
            raise ValueError("has a system and a retrieval_system; name one of them")
        if self.set and not self.is_ours:
            raise ValueError("set: is of a row with a system; name one")
        return self

    @property
    def is_ours(self) -> bool:
        """Whether this code makes it."""
        return bool(self.system or self.retrieval_system)


class PaperTable(Section):
    """A table, as a file in ``recipes/tables`` says it."""

    paper: Filled  # its page in docs/papers
    note: str = ""  # what a reader of the numbers must know
    recipe: Filled  # of the paper, that the rows start from
    dataset: Filled  # the default
    datasets: Annotated[tuple[Filled, ...], Field(min_length=1)]  # recipes of datasets it runs on
    columns: Annotated[dict[str, Filled], Field(min_length=1)]  # as printed → metric
    base: str | None = None  # the row that all others are compared with
    seeds: Annotated[int, Field(ge=1, le=100)] = 3  # how many, from 1 on
    also: dict[str, str] = Field(default_factory=dict)  # other tables' names → their row of this
    rows: Annotated[dict[str, TableRow], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> PaperTable:
        known("dataset", [self.dataset], "datasets", self.datasets)
        known("base", [self.base] if self.base else [], "rows", self.rows)
        known("also", [*self.also.values()], "rows", self.rows)
        for name, row in self.rows.items():
            if not NAME.fullmatch(name):
                raise ValueError(f"rows: {name!r}: a name has letters, digits, _ and -; rename it")
            known(f"rows.{name}.datasets", row.datasets, "datasets", self.datasets)
            for dataset, numbers in row.paper.items():
                if len(numbers) != len(self.columns):
                    raise ValueError(
                        f"rows.{name}.paper.{dataset}: {len(numbers)} numbers for "
                        f"{len(self.columns)} columns; give null where the paper has none"
                    )
        if self.base and not self.rows[self.base].is_ours:
            raise ValueError(f"base: row {self.base} has no system; name one that is made here")
        return self


class NamedTable(NamedTuple):
    """A table under the name that it was asked for by."""

    name: str  # its file's
    about: str  # the comment on the file's head
    table: PaperTable
    only: tuple[str, ...]  # the rows that the name means; none: all


def read_table(recipes: Path, name: str) -> NamedTable:
    """One table, by its own name or by that of a table which is one row of it (``also``).

    Args:
        recipes: the folder of recipes.

    Raises:
        EarwitnessError: there is none of that name (the nearest is named), or it is not in form.
    """
    found = {path.stem: path for path in sorted((recipes / FOLDER).glob("*.yaml"))}
    if not found:
        raise EarwitnessError(f"{recipes / FOLDER}: no tables there; give a repository's recipes")
    if name in found:
        return _read(found[name])
    rows: dict[str, tuple[NamedTable, str]] = {}
    for path in found.values():
        whole = _read(path)
        rows |= {other: (whole, row) for other, row in whole.table.also.items()}
    if name not in rows:
        raise EarwitnessError(f"no table '{name}'{nearest(name, [*found, *rows])}")
    whole, row = rows[name]
    base = [whole.table.base] if whole.table.base else []
    return whole._replace(only=tuple(dict.fromkeys((*base, row))))


def read_tables(recipes: Path) -> list[NamedTable]:
    """All of them, by paper and number.

    Raises:
        EarwitnessError: see :func:`read_table`.
    """
    found = [_read(path) for path in (recipes / FOLDER).glob("*.yaml")]
    return sorted(found, key=lambda each: _by_number(each.name))


def listing(recipes: Path) -> str:
    """Every table, with what it is, for a terminal."""
    lines = []
    for each in read_tables(recipes):
        lines += wrap(each.about, WIDTH, initial_indent=f"  {each.name:8} ",
                      subsequent_indent=" " * 11)  # fmt: skip
        rows = len([row for row in each.table.rows.values() if row.is_ours])
        more = f", its tables {', '.join(each.table.also)} too" if each.table.also else ""
        on = ", ".join(_default_first(each.table))
        lines.append(f"{'':11}{rows} rows to make{more}; on {on}")
    return "\n".join([*lines, "", "earwitness table NAME [DATASET]"])


def metric_of(column: str, made: Iterable[str]) -> str | None:
    """A column's metric as it was made: other weights than the field's stand in its name.

    ``sbert_sim`` may be made as ``sbert_sim_minilm``; None: it was not made.
    """
    made = list(made)
    if column in made:
        return column
    named = column in ("fense", "sbert_sim")
    return next((each for each in made if named and each.startswith(f"{column}_")), None)


def _read(path: Path) -> NamedTable:
    values = read_yaml(path, HINT)
    if not isinstance(values, Mapping):
        raise EarwitnessError(f"{path}: has no fields; {HINT}")
    table = parse_section(PaperTable, values, str(path))
    head = []
    for line in read_text(path, HINT).splitlines():
        if not line.startswith("# "):
            break
        head.append(line.removeprefix("# "))
    return NamedTable(path.stem, " ".join(head), table, ())


def _default_first(table: PaperTable) -> list[str]:
    return [table.dataset, *(name for name in table.datasets if name != table.dataset)]


def _by_number(name: str) -> tuple[str, int]:
    paper, _, number = name.rpartition("-")
    return paper, int(number) if re.fullmatch(r"[0-9]{1,4}", number) else 0

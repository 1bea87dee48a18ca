"""What a row came to, what it was made of, and whether that is still what it is made of today.

A result is found by the digests of its settings and of the code that its jobs run, never by its
name alone. It lies in ``data/partial/tables/results`` of this machine; the tables that were
published (``tables/*.json``, in git) are read as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from earwitness.dotted import leaves
from earwitness.interval_files import read_around
from earwitness.tables.resolving import TableRun, code_of, digest_of, own_values
from pipeline.config.section import Section, parse_section
from pipeline.errors import EarwitnessError
from pipeline.files import read_json, write_json

AGAIN = "remove it, and run `earwitness table` again"
SHOWN = 3  # of the settings and modules that differ


class RowMetric(Section):
    """One metric, as evaluation writes it into ``intervals/``; of one seed ``sd`` is null."""

    mean: float
    low: float | None = None  # of the 95 % interval
    high: float | None = None
    sd: float | None = None  # over seeds
    by_seed: dict[str, float] = Field(default_factory=dict)


class AgainstBase(Section):
    """One metric of a row against that of the table's base row, clip by clip."""

    difference: float  # the row less the base
    low: float | None = None  # of its 95 % interval
    high: float | None = None
    p: float  # corrected for all the rows that were compared
    clear: bool  # whether the difference exceeds the noise


class RowResult(Section):
    """One row of a table, as it was made."""

    settings: dict[str, Any]  # dotted: the parameters that it alone needs
    settings_digest: str
    code: dict[str, str] = Field(default_factory=dict)  # module → digest; not in published tables
    code_digest: str
    seeds: tuple[int, ...]
    clips: int
    metrics: dict[str, RowMetric]
    base: str | None = None  # digest of the base row's settings that `against` is to
    against: dict[str, AgainstBase] = Field(default_factory=dict)
    revision: str  # of the code: git's commit, "+" where files were changed
    experiment: str  # DVC's name of the run
    date: str  # UTC, ISO 8601
    machine: str
    seconds: float | None = None  # its jobs together, those that it shares with others too

    @property
    def digest(self) -> str:
        """Of what it was made of."""
        return f"{self.settings_digest}-{self.code_digest}"


class MadeOf(Section):
    """What a row is made of today."""

    settings: dict[str, Any]
    code: dict[str, str]

    @property
    def settings_digest(self) -> str:
        return digest_of(self.settings)

    @property
    def code_digest(self) -> str:
        return digest_of(self.code)


def wanted_of(run: TableRun, row: str, root: Path) -> MadeOf:
    """A row as today's parameters and code would make it.

    Args:
        root: the folder of our packages.
    """
    values = own_values(run, run.rows[row])
    return MadeOf(settings=leaves(values), code=code_of(values, root))


def why_stale(result: RowResult, wanted: MadeOf, seeds: Sequence[int]) -> str:
    """What differs between a result and what is wanted, in a few words; empty: nothing."""
    found = list(_differences(result, wanted))
    if missing := [str(seed) for seed in seeds if seed not in result.seeds]:
        found.append(f"seed {', '.join(missing)} is not there")
    elif tuple(seeds) != result.seeds:
        found.append(f"it has seeds {', '.join(map(str, result.seeds))}")
    more = f" (and {len(found) - SHOWN} more)" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


def _differences(result: RowResult, wanted: MadeOf) -> Iterator[str]:
    if result.settings_digest != wanted.settings_digest:
        for key in sorted({*result.settings, *wanted.settings}):
            before, now = result.settings.get(key), wanted.settings.get(key)
            if before != now:
                yield f"{key}: {before} → {now}"
    if result.code_digest != wanted.code_digest:
        if not result.code:
            yield f"code changed since {result.revision}"
        for module in sorted({*result.code, *wanted.code}) if result.code else ():
            if result.code.get(module) != wanted.code.get(module):
                yield f"code {module.replace('.', '/')}.py changed"


class TableResults:
    """The results of one table on one dataset: those made here, and those published.

    Args:
        folder: ``data/partial/tables/results/<table>-<dataset>``.
        published: of the table in git, by row.
    """

    def __init__(self, folder: Path, published: Mapping[str, RowResult]) -> None:
        self.folder, self.published = folder, published

    def of(self, row: str, wanted: MadeOf, seeds: Sequence[int]) -> RowResult | None:
        """The result that stands for the row: one that is made of what is wanted, else the latest.

        Raises:
            EarwitnessError: a file of results is there, and is none.
        """
        path = self.folder / f"{row}.json"
        here = read_result(path) if path.is_file() else None
        there = self.published.get(row)
        found = [each for each in (here, there) if each is not None]
        fits = [each for each in found if not why_stale(each, wanted, seeds)]
        return next(iter(fits or sorted(found, key=lambda each: each.date, reverse=True)), None)

    def save(self, row: str, result: RowResult) -> None:
        write_json(self.folder / f"{row}.json", result.model_dump(mode="json"))


def read_result(path: Path) -> RowResult:
    """One row's result.

    Raises:
        EarwitnessError: it is not there, or not in form.
    """
    return parse_section(RowResult, read_json(path, AGAIN), str(path))


def measured(root: Path, run: TableRun, row: str) -> tuple[int, dict[str, RowMetric]]:
    """N, and each metric of a row, as the run in ``root`` left them in ``intervals/``.

    Raises:
        EarwitnessError: they are not there, or not in form.
    """
    named = run.rows[row]
    kind = Path("intervals") / ("retrieval" if named.retrieval_system else "")
    path = root / kind / run.dataset / f"{named.system or named.retrieval_system}.json"
    around = read_around(path, AGAIN)
    if around is None:
        raise EarwitnessError(f"{path}: not there; {AGAIN}")
    metrics = {
        name: parse_section(RowMetric, value, f"{path}: {name}")
        for name, value in around.metrics.items()
    }
    if not isinstance(around.clips, int):
        raise EarwitnessError(f"{path}: clips is no number; {AGAIN}")
    return around.clips, metrics

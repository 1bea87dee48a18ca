"""Makes a table: finds what is there, runs what is missing, and compares with the base row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from earwitness.tables.comparing import ComparedRow, against_base
from earwitness.tables.made import MadeTable, make_table
from earwitness.tables.publishing import published
from earwitness.tables.reading import NamedTable, TableRow, read_table
from earwitness.tables.resolving import TableRun, chosen_dataset, chosen_rows, digest_of, runs_of
from earwitness.tables.results import (
    MadeOf,
    RowResult,
    TableResults,
    measured,
    wanted_of,
    why_stale,
)
from earwitness.tables.running import (
    done_trainings,
    last_seconds,
    run_experiment,
    times_of,
    trainings,
)
from earwitness.tables.workplace import FOLDER, CodeRevision, Workplace, revision_of
from earwitness.terminal import duration
from pipeline.times import StageTime, processor

Stale = Literal["rerun", "ok"]
Say = Callable[[str], None]


class RowState(NamedTuple):
    """One row of ours: what it is made of today, and the result that stands for it."""

    run: TableRun
    wanted: MadeOf
    result: RowResult | None
    stale: str  # why the result is not what would be made today
    compared: bool = True  # with the base row as that is now, where it is to be

    @property
    def in_words(self) -> str:
        if self.result is None:
            return "missing"
        if self.stale:
            return f"stale: {self.stale}"
        return "there" if self.compared else "there, but compared with another base row"


class TableJob:
    """One table on one dataset, with its seeds: what is there, and what makes the rest.

    Args:
        root: of the repository.
        name: of the table, such as ``edtc-2``.
        dataset: empty: the table's own.
        seeds: none: the table's own.
        only: rows; none: all.

    Raises:
        EarwitnessError: no such table, dataset or row (the nearest is named), or a table that is
            not in form.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        dataset: str = "",
        seeds: Sequence[int] = (),
        only: Sequence[str] = (),
    ) -> None:
        self.root, self.recipes = root, root / "recipes"
        self.named: NamedTable = read_table(self.recipes, name)
        self.dataset = chosen_dataset(self.named, dataset)
        self.seeds = tuple(seeds) or tuple(range(1, self.named.table.seeds + 1))
        self.rows: dict[str, TableRow] = chosen_rows(self.named, only, self.dataset)
        self.partial = bool(only or self.named.only)  # not all rows that the dataset has
        self.runs = runs_of(self.named, self.rows, self.dataset, self.seeds, self.recipes)
        name = f"{self.named.name}-{self.dataset}"
        there = published(root, self.named.name, self.dataset)
        self.results = TableResults(root / FOLDER / "results" / name, there)

    def states(self) -> dict[str, RowState]:
        """Row of ours → its state, in the table's order."""
        found = {}
        for run in self.runs:
            for name in run.rows:
                wanted = wanted_of(run, name, self.root)
                result = self.results.of(name, wanted, self.seeds)
                stale = why_stale(result, wanted, self.seeds) if result else ""
                found[name] = RowState(run, wanted, result, stale)
        base = found.get(self.named.table.base or "")
        if base is not None and base.result is not None:
            found = {
                name: state._replace(compared=_is_compared(state, base))
                for name, state in found.items()
            }
        return {name: found[name] for name in self.rows if name in found}

    def foresee(self) -> Iterator[str]:
        """What is there and what would run, a line a row, with how long it took last."""
        states = self.states()
        for name, state in states.items():
            took = state.result.seconds if state.result else None
            last = f"; took {duration(took)} last" if took is not None else ""
            yield f"{name:20} {state.in_words}{last}"
        for run in self.runs:
            if any(states[name].stale or not states[name].result for name in run.rows):
                yield self._foresee_run(run)

    def _foresee_run(self, run: TableRun) -> str:
        """How much of what a run trains has ended, and what the rest took last."""
        workplace = Workplace(self.root, run.name)
        jobs, done = trainings(run), done_trainings(workplace, run)
        rest = {job: training for job, training in jobs.items() if job not in done}
        known = last_seconds(workplace, rest)
        line = f"run {run.name}: {len(jobs)} trainings, {len(done)} of them ended here"
        if known:
            line += f"; {len(known)} of the others took {duration(sum(known.values()))} last"
        return f"{line}; whatever did not change since comes from DVC's cache"

    def make(self, stale: Stale, say: Say, jobs: int = 1) -> None:
        """Runs what is missing, and with ``rerun`` what is stale; ``jobs`` trainings at once.

        Raises:
            EarwitnessError: a stage failed, or another process makes this run.
        """
        states = self.states()
        waiting = [name for name, state in states.items() if _is_waiting(state, stale)]
        if not waiting:
            return
        for name in waiting:
            say(f"{name}: {states[name].in_words}")
        revision = revision_of(self.root)
        made: dict[str, RowResult] = {}
        for run in self.runs:  # all of them: rows are compared with each other's clips
            made |= self._make_run(run, states, revision, say, jobs)
        self._save(made)
        self._compare(made, say)
        self._save(made)

    def _save(self, made: Mapping[str, RowResult]) -> None:
        for name, result in made.items():
            self.results.save(name, result)

    def _compare(self, made: dict[str, RowResult], say: Say) -> None:
        """Adds to the results what their differences from the base row are."""
        base = self.named.table.base
        if base not in made or len(made) < 2:
            return
        say(f"comparing with {base}")
        rows = {
            name: ComparedRow(
                Workplace(self.root, run.name).tree,
                row.system or row.retrieval_system or "",
                row.retrieval_system is not None,
            )
            for run in self.runs
            for name, row in run.rows.items()
        }
        run = self.runs[0]
        found = against_base(rows, base, run.dataset, run.params.evaluation)
        for name, result in made.items():
            update = {"base": made[base].digest, "against": found.get(name, {})}
            made[name] = result.model_copy(update=update)

    def _make_run(
        self,
        run: TableRun,
        states: Mapping[str, RowState],
        revision: CodeRevision,
        say: Say,
        jobs: int,
    ) -> dict[str, RowResult]:
        """All rows of a run, those that are there too: they cost no training, and are compared."""
        workplace = Workplace(self.root, run.name)
        made_of = {name: states[name].wanted for name in run.rows}
        digests = [self.seeds, *(each.model_dump() for each in made_of.values())]
        experiment = f"{self.named.name}-{self.dataset}-{digest_of(digests)[:6]}"
        run_experiment(workplace, run, revision, experiment, say, jobs)
        results = {}
        for name, wanted in made_of.items():
            clips, metrics = measured(workplace.tree, run, name)
            times = times_of(workplace, run, name)
            results[name] = RowResult(
                settings=wanted.settings,
                settings_digest=wanted.settings_digest,
                code=wanted.code,
                code_digest=wanted.code_digest,
                seeds=self.seeds,
                clips=clips,
                metrics=metrics,
                revision=str(revision),
                experiment=experiment,
                date=datetime.now(UTC).isoformat(timespec="seconds"),
                machine=_machine(times),
                seconds=round(sum(each.seconds for each in times), 1) if times else None,
            )
        return results

    def table(self, metrics: Sequence[str] = ()) -> MadeTable:
        """What there is now."""
        results = {
            name: (state.result, state.stale)
            for name, state in self.states().items()
            if state.result is not None
        }
        return make_table(self.named, self.rows, self.dataset, self.seeds, results, metrics)


def _is_waiting(state: RowState, stale: Stale) -> bool:
    """Whether a row is to be made."""
    if state.result is None or not state.compared:
        return True
    return bool(state.stale) and stale == "rerun"


def _is_compared(state: RowState, base: RowState) -> bool:
    """Whether what is there of a row was compared with what is there of the base row."""
    if state.result is None or base.result is None or state.stale or base.stale:
        return True
    return state.result.base == base.result.digest


def _machine(times: Sequence[StageTime]) -> str:
    """What the jobs ran on, in words."""
    if not times:
        return processor()
    last = times[-1]
    cores = f"{last.cores} core{'s' if last.cores > 1 else ''}"
    return f"{last.cpu}, {cores}" + (f", {last.gpu}" if last.gpu else "")

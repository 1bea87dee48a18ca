"""Runs what a table is missing, as DVC experiments, and says how far it is.

Each run is ``dvc repro`` in a workplace of its own, saved as an experiment of this repository when
it is done. Whatever ends it, Ctrl-C, a crash or ``kill -9``, the same command goes on: DVC keeps
each job that has ended, and a training its checkpoint.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

from earwitness.jobs.lanes import HAS, RUNS, dvc_environment
from earwitness.jobs.repro import repro
from earwitness.repair import repaired, running_dvc
from earwitness.tables.resolving import TableRun
from earwitness.tables.workplace import CodeRevision, Workplace
from earwitness.terminal import duration
from pipeline.errors import EarwitnessError
from pipeline.lock import exclusive
from pipeline.times import StageTime, read_times, time_of

TRAINED = {  # stage → the section of what it trains; its plans lie in a folder of that name
    "train_retriever": "retrievers",
    "adapt": "adapted",
    "train_captioner": "captioners",
    "finetune": "finetuned",
}
KEPT = 200  # last lines of a run's output that are searched for its error

Say = Callable[[str], None]


def run_experiment(
    workplace: Workplace,
    run: TableRun,
    revision: CodeRevision,
    experiment: str,
    say: Say,
    jobs: int = 1,
) -> None:
    """Makes the metrics of a run, and keeps it as DVC's experiment ``experiment``.

    Args:
        say: is given each line of progress.
        jobs: trainings that run at once.

    Raises:
        EarwitnessError: a stage failed; its own error line, and where the whole output is, are in
            the message. Or another process makes this run.
    """
    with exclusive(workplace.lock):
        workplace.prepare(run, revision)
        if running_dvc(workplace.root) is None:  # what is repaired in the cache is also another's
            for line in repaired(workplace.tree):
                say(line)
        with workplace.log.open("w", encoding="utf-8") as log:
            watched = _Watched(workplace, run, log, say)
            watched.follow(jobs)
        _save(workplace, run.targets, experiment, say)


class _Watched:
    """Writes what DVC says into the log of a run, and says what is news of it."""

    def __init__(self, workplace: Workplace, run: TableRun, log: TextIO, say: Say) -> None:
        self._workplace, self._run, self._log, self._say = workplace, run, log, say
        self._waiting = trainings(run)
        self._trained = frozenset(self._waiting)

    def follow(self, jobs: int) -> None:
        """Runs it to its end, ``jobs`` at once.

        Raises:
            EarwitnessError: one failed; the others that ran have ended too.
        """
        place, run = self._workplace, self._run
        failures = []
        lines = defaultdict[str, deque[str]](partial(deque, maxlen=KEPT))
        began: dict[str, float] = {}
        spread = run.params.hardware.processes == 1
        for said in repro(place.tree, run.targets, jobs, root=place.root, spread=spread):
            name, line, code = said.name, said.line, said.code
            if code is None:
                self._log.write(f"[{name}] {line}\n" if name else f"{line}\n")
                self._log.flush()
                lines[name].append(line)
                if news := progress(line, self._waiting):
                    began[name] = time.monotonic()
                    self._say(news)
            elif code:
                failures.append(_failure(run, lines[name], place.log, code))
                if name:
                    self._say(f"{name} failed; no more are begun, and what runs goes on to its end")
            elif name in began and name in self._trained:
                self._say(f"{name} is done, after {duration(time.monotonic() - began[name])}")
        if failures:
            raise EarwitnessError(failures[0])


class Training(NamedTuple):
    """One model that a run trains, with one seed."""

    name: str
    seed: int
    plan: str  # below data/plans
    rows: tuple[str, ...]  # that it is trained for; none: for what others are trained on

    def __str__(self) -> str:
        more = f" and {len(self.rows) - 2} more" if len(self.rows) > 2 else ""
        return f"{', '.join(self.rows[:2]) or 'for all'}{more}, seed {self.seed}"


def trainings(run: TableRun) -> dict[str, Training]:
    """DVC's name of the job → what it trains."""
    needed = {row: members(run, row) for row in run.rows}
    found = {}
    for stage, section in TRAINED.items():
        for name in getattr(run.params, section):
            rows = tuple(row for row, names in needed.items() if name in names)
            for seed in run.params.seeds:
                plan = f"{section}/{name}/{seed}.json"
                found[f"{stage}@{name}-{seed}"] = Training(name, seed, plan, rows)
    return found


def members(run: TableRun, row: str) -> list[str]:
    """The captioners or retrievers of a row's system, and what those are trained further from."""
    named, params = run.rows[row], run.params
    if named.system:
        names = [*params.systems[named.system].captioners]
        bases = {name: each.captioner for name, each in params.finetuned.items()}
    else:
        system = params.retrieval_systems[named.retrieval_system or ""]
        names = [*system.retrievers, *([system.captions_of] if system.captions_of else [])]
        bases = {name: each.retriever for name, each in params.adapted.items()}
    return [*names, *(bases[name] for name in names if name in bases)]


def done_trainings(workplace: Workplace, run: TableRun) -> list[str]:
    """Those of a run that have ended, by the plans that stand in its workplace."""
    return [
        job
        for job, training in trainings(run).items()
        if time_of(workplace.times, workplace.plans / training.plan) is not None
    ]


def last_seconds(workplace: Workplace, jobs: Mapping[str, Training]) -> dict[str, float]:
    """Job → what one of its name took last in this repository, where that is known."""
    found: dict[tuple[str, str], float] = {}
    for each in read_times(workplace.times):
        if each.finished and len(each.job) > 1:
            found[each.job[0], each.job[1]] = each.seconds
    names = {job: (training.name, str(training.seed)) for job, training in jobs.items()}
    return {job: found[name] for job, name in names.items() if name in found}


def progress(line: str, waiting: dict[str, Training]) -> str:
    """What a line of DVC's says of the work, in words; a training leaves ``waiting``."""
    if match := HAS.search(line):
        waiting.pop(match[1], None)
        return ""
    if (match := RUNS.search(line)) is None:
        return ""
    if (training := waiting.pop(match[1], None)) is None:
        return match[1]
    more = f"{len(waiting)} more training{'s' if len(waiting) > 1 else ''}"
    return f"{match[1]} ({training})" + (f"; {more} after it" if waiting else "")


def _failure(run: TableRun, lines: deque[str], log: Path, code: int) -> str:
    """One line: the stage, its own error, and where to read the rest."""
    stages = [match[1] for line in lines if (match := RUNS.search(line))]
    errors = [line for line in lines if line.lower().startswith("error: ")]
    said = errors[0].partition(": ")[2] if errors else f"dvc ended with {code}"
    where = f"{stages[-1]} of {run.name}" if stages else run.name
    return f"{where}: {said}; all that it said is in {log}"


def _save(workplace: Workplace, targets: list[str], experiment: str, say: Say) -> None:
    """Keeps what was made as an experiment; a run whose metrics are there does not fail for it."""
    folders = [name for name in ("metrics", "intervals") if (workplace.tree / name).is_dir()]
    command = ["exp", "save", "--force", "--name", experiment]
    for name in folders:
        command += ["--include-untracked", name]
    command += targets  # DVC would ask for the outputs of all others
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *command],
        cwd=workplace.tree,
        env=dvc_environment(workplace.root),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[:200]
        say(f"warning: not kept as an experiment of DVC ({said})")


def times_of(workplace: Workplace, run: TableRun, row: str) -> list[StageTime]:
    """What each job of a row took, also those that it shares with others; where that is known."""
    found = [time_of(workplace.times, path) for path in _plans(workplace, run, row)]
    return [each for each in found if each is not None]


def _plans(workplace: Workplace, run: TableRun, row: str) -> Iterator[Path]:
    """The plans of what is trained for a row, for others too, and of its captions."""
    if system := run.rows[row].system:
        yield workplace.plans / "systems" / f"{run.dataset}-{system}.json"
    for training in trainings(run).values():
        if row in training.rows:
            yield workplace.plans / training.plan

"""Why ``dvc repro`` would run a job again, or which it would run: ``earwitness why [JOB]``.

The plan that a job last ran with is in DVC's cache, by the hash that ``dvc.lock`` has of it;
today's plan is made here, from ``params.yaml`` and what is there. Their difference is the answer.
So it is with the fingerprint of a dataset's files, which `prepare` depends on (stages/look.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from earwitness.dotted import leaves
from earwitness.graph import PLANS, Job, open_repository, read_jobs, upstream
from pipeline.config.params import load_params
from pipeline.config.section import nearest
from pipeline.errors import EarwitnessError
from pipeline.files import read_json
from pipeline.outside.digests import Digests
from pipeline.outside.look import changes, look_at_dataset
from pipeline.planning import PHASES, Context

FINGERPRINTS = "data/inputs/datasets"  # of what `prepare` reads
LOOKED = "data/partial/look"  # the files that were looked at, and their digests
CODE = Path(__file__).resolve().parents[1]  # the folder of our packages
Plan = Mapping[str, Any]  # as JSON


def explain(job: str, root: Path) -> list[str]:
    """The reasons, a line each, and the jobs before it that would run first.

    Args:
        job: as DVC names it, such as ``train_captioner@edtc``.
        root: of the repository.

    Raises:
        EarwitnessError: no such job (the nearest is named), or invalid parameters.
    """
    jobs = read_jobs(root, partly=True)
    if job not in jobs:
        raise EarwitnessError(f"no job '{job}'{nearest(job, jobs)}")
    reasons = _all_reasons(root, jobs, [*upstream(jobs, job), job])
    before = [name for name, found in reasons.items() if found and name != job]
    lines = [f"{job} runs again:", *(f"    {line}" for line in reasons[job])]
    if not reasons[job]:
        would = (
            "its own plan is unchanged" if before else "up to date: nothing it depends on changed"
        )
        lines = [f"{job}: {would}"]
    for name in before:
        lines += [f"before it, {name} runs:", *(f"    {line}" for line in reasons[name])]
    return lines


def foresee(root: Path) -> list[str]:
    """What ``dvc repro`` would run, a line a job with the first reason; on a fresh clone too.

    DVC's own ``dvc repro --dry`` ends at the first file that is not made yet. A job behind one that
    runs is run only if what it reads comes out different, so that it is said apart.

    Args:
        root: of the repository.

    Raises:
        EarwitnessError: no repository, or invalid parameters.
    """
    jobs = read_jobs(root, partly=True)
    reasons = _all_reasons(root, jobs, [*jobs])
    lines, behind = [], []
    for name, found in reasons.items():
        if found:
            more = f" (and {len(found) - 1} more)" if found[1:] else ""
            lines.append(f"runs      {name}: {found[0]}{more}")
        elif before := [other for other in upstream(jobs, name) if reasons[other]]:
            behind.append(f"may run   {name}: after {before[-1]}")
    still = len(jobs) - len(lines) - len(behind)
    return [*lines, *behind, f"{still} of {len(jobs)} jobs are up to date"]


def _all_reasons(root: Path, jobs: Mapping[str, Job], names: Iterable[str]) -> dict[str, list[str]]:
    repository = open_repository(root)
    stages = {stage.name: stage for stage in repository.index.stages}
    today = _Today(root)
    with _alone(repository):
        return {name: list(_reasons(stages[name], jobs, name, repository, today)) for name in names}


@contextmanager
def _alone(repository: Any) -> Iterator[None]:
    """Holds DVC's lock, without which it does not compare files."""
    from dvc.lock import LockError

    try:
        with repository.lock:
            yield
    except LockError:
        raise EarwitnessError("DVC is running in this repository; ask when it has ended") from None


class _Today:
    """Plans as planning would write them now; each phase is made once, when it is asked for."""

    def __init__(self, root: Path) -> None:
        self.root, self.params = root, load_params(root / "params.yaml")
        self.phases: dict[str, dict[str, Any]] = {}

    @cached_property
    def context(self) -> Context:
        """Read when a plan is asked for, as it needs what `prepare` makes."""
        return Context.read(self.params, CODE, self.root, self.root / LOOKED / "weights.json")

    def plan(self, path: str) -> Plan | None:
        """The plan that would stand at ``path``; None where the parameters ask for none."""
        phase, _, name = path.removeprefix(f"{PLANS}/").removesuffix(".json").partition("/")
        if phase not in self.phases:
            self.phases[phase] = dict(PHASES[phase](self.context))
        plan = self.phases[phase].get(name)
        return None if plan is None else json.loads(plan.model_dump_json())

    def edits(self, dataset: str, last: Mapping[str, Any]) -> Iterator[str]:
        """What differs in a dataset's files from its fingerprint ``last``, in words."""
        settings = self.params.datasets[dataset]
        digests = Digests(self.root / LOOKED / "datasets" / f"{dataset}.json")
        try:
            now = look_at_dataset(settings, self.root, digests)
        except EarwitnessError as error:
            yield f"input {error}"
            return
        for change in changes(last, now) if now else ():  # of files that are away, all stays
            yield f"input {getattr(settings, 'root', '.')}/{change}"


def _reasons(
    stage: Any, jobs: Mapping[str, Job], name: str, repository: Any, today: _Today
) -> Iterator[str]:
    job = jobs[name]
    for kind, paths in _changed(stage).items():
        for path, state in paths.items():
            if path != job.plan and not _is_fingerprint(path):
                yield f"{kind} {path}: {state}"
    for path in filter(_is_fingerprint, job.inputs):
        last = _last(stage, path, repository)
        if isinstance(last, str):
            yield last
        else:
            yield from today.edits(PurePosixPath(path).stem, last)
    if job.plan is None:
        return
    try:
        new = today.plan(job.plan)
    except EarwitnessError as error:
        yield f"its plan cannot be made yet: {error}"
        return
    last = _last(stage, job.plan, repository)
    if new is None:
        yield "the parameters ask for no such job any more"
    elif isinstance(last, str):
        yield last
    else:
        yield from differences(last, new, jobs)


def _is_fingerprint(path: str) -> bool:
    return path.startswith(f"{FINGERPRINTS}/")


def _last(stage: Any, path: str, repository: Any) -> Plan | str:
    """What a dependency was when the job last ran, or why that is not known."""
    last = next((dep for dep in stage.deps if dep.def_path == path), None)
    if last is None or not last.hash_info:
        return "it has not run here yet"
    cached = Path(repository.cache.local.oid_to_path(last.hash_info.value))
    if not cached.is_file():
        what = "fingerprint" if _is_fingerprint(path) else "plan"
        return f"DVC's cache no longer has the {what} that it last ran with, to compare with"
    found: Plan = read_json(cached, "run `dvc repro`")
    return found


def differences(old: Plan, new: Plan, jobs: Mapping[str, Job]) -> Iterator[str]:
    """What differs between two plans, in words."""
    for path in sorted({*old["code"], *new["code"]}):
        before, now = old["code"].get(path), new["code"].get(path)
        if before != now:
            what = "changed" if before and now else "is run now" if now else "is no longer run"
            yield f"code {path.replace('.', '/')}.py {what}"
    for path in sorted({*old["inputs"], *new["inputs"]}):
        before, now = old["inputs"].get(path), new["inputs"].get(path)
        if before != now:
            what = "changed" if before and now else "is read now" if now else "is no longer read"
            makers = [name for name, job in jobs.items() if path in job.outputs]
            yield f"input {path} {what}" + (f" (made by {makers[0]})" if makers else "")
    before, now = leaves(_settings(old)), leaves(_settings(new))
    for key in dict.fromkeys((*before, *now)):
        if before.get(key) != now.get(key) or (key in before) != (key in now):
            yield f"{key}: {_shown(before, key)} → {_shown(now, key)}"


def _settings(plan: Plan) -> dict[str, Any]:
    return {key: value for key, value in plan.items() if key not in ("code", "inputs")}


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key], ensure_ascii=False) if key in settings else "not there"


def _changed(stage: Any) -> dict[str, dict[str, str]]:
    """What DVC itself sees: kind → path → state, such as ``output`` → … → ``deleted``."""
    found: dict[str, dict[str, str]] = {}
    for entry in stage.status().get(stage.addressing, []):
        if entry == "changed command":
            found["command"] = {stage.cmd if isinstance(stage.cmd, str) else "": "changed"}
            continue
        for kind, word in (("changed deps", "input"), ("changed outs", "output")):
            for path, state in entry.get(kind, {}).items() if isinstance(entry, dict) else ():
                if isinstance(state, dict):  # of params.yaml
                    for key, how in state.items():
                        found.setdefault("parameter", {})[key] = how
                else:
                    found.setdefault(word, {})[path] = state
    return found

"""The jobs of the pipeline and the data that flows between them: ``earwitness graph``.

A heavy job depends for DVC on its plan alone, so that ``dvc dag`` shows the planning stages and not
what reads what. The plans name every input by its path, and DVC knows which job makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from pipeline.config.params import load_params
from pipeline.errors import EarwitnessError
from pipeline.files import read_json

PLANS = "data/plans"
# the stages that decide what runs, and make no data
AHEAD = ("look", "plan", "plan_adapt", "plan_finetune")


class Job(NamedTuple):
    """One job, an instance of a stage of ``dvc.yaml``."""

    plan: str | None  # path of its plan, where it has one
    inputs: tuple[str, ...]  # paths that it reads
    outputs: tuple[str, ...]  # paths that it writes
    sources: tuple[str, ...]  # jobs that write what it reads, in the order of dvc.yaml


def read_jobs(root: Path, partly: bool = False) -> dict[str, Job]:
    """Job → what it reads and writes, in the order of ``dvc.yaml``, but for :data:`AHEAD`.

    Args:
        partly: leave out what a plan would name that is not made yet.

    Raises:
        EarwitnessError: no repository of DVC at ``root``, or, unless ``partly``, a plan is missing.
    """
    stages = {
        stage.name: stage
        for stage in open_repository(root).index.stages
        if stage.name.partition("@")[0] not in AHEAD
    }
    outputs = {
        name: tuple(_path(out, root) for out in stage.outs) for name, stage in stages.items()
    }
    jobs = {}
    for name, stage in stages.items():
        depends = [_path(dep, root) for dep in stage.deps]
        plan = next((path for path in depends if path.startswith(f"{PLANS}/")), None)
        inputs = dict.fromkeys(path for path in depends if path != plan)
        if plan is not None and not (partly and not (root / plan).exists()):
            inputs |= dict.fromkeys(_planned_inputs(root / plan))
        sources = tuple(
            other
            for other, written in outputs.items()
            if other != name and any(_overlap(path, out) for path in inputs for out in written)
        )
        jobs[name] = Job(plan, tuple(inputs), outputs[name], sources)
    return jobs


def open_repository(root: Path) -> Any:
    """DVC's own view of the repository.

    Raises:
        EarwitnessError: there is none, or its parameters are wrong: DVC stumbles over some of these
            without saying where.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError  # half a second
    from dvc.repo import Repo

    if (Path(root) / "params.yaml").is_file():
        load_params(Path(root) / "params.yaml")
    try:
        repository = Repo(str(root))
        repository.index.stages  # noqa: B018 - parses dvc.yaml
    except NotDvcRepoError:
        raise EarwitnessError(f"{root}: no DVC repository; run inside a checkout") from None
    except DvcException as error:
        raise EarwitnessError(f"{root}: {' '.join(str(error).split())}") from None
    return repository


def upstream(jobs: Mapping[str, Job], job: str) -> list[str]:
    """The jobs that one depends on, directly or not, in the order of ``jobs``."""
    found: set[str] = set()
    waiting = [job]
    while waiting:
        new = set(jobs[waiting.pop()].sources) - found
        found |= new
        waiting += new
    return [name for name in jobs if name in found]


def draw(jobs: Mapping[str, Job], format: Literal["mermaid", "text"]) -> str:
    """The graph as Mermaid, or as a list of what each job reads.

    Mermaid leaves out an edge that a longer way implies, so that the picture stays readable; the
    text has every edge.
    """
    if format == "text":
        return "\n".join(_described(name, job) for name, job in jobs.items())
    names = {name: f"job{number}" for number, name in enumerate(jobs)}
    lines = ["flowchart LR"]
    lines += [f'    {short}["{name}"]' for name, short in names.items()]
    lines += [
        f"    {names[source]} --> {names[name]}" for name in jobs for source in _needed(jobs, name)
    ]
    return "\n".join(lines)


def _needed(jobs: Mapping[str, Job], name: str) -> list[str]:
    """The sources of a job that are no source of another of its sources."""
    sources = jobs[name].sources
    implied = {before for source in sources for before in upstream(jobs, source)}
    return [source for source in sources if source not in implied]


def _described(name: str, job: Job) -> str:
    return f"{name}\n    reads {', '.join(job.sources)}" if job.sources else name


def _planned_inputs(path: Path) -> list[str]:
    return [*read_json(path, "run `dvc repro`, which writes the plans")["inputs"]]


def _path(entry: Any, root: Path) -> str:
    """A dependency's or an output's path below the root, as dvc.yaml writes it."""
    return Path(entry.fs_path).relative_to(Path(root).resolve()).as_posix()


def _overlap(one: str, other: str) -> bool:
    """Whether two paths are the same, or one lies inside the other."""
    first, second = PurePosixPath(one), PurePosixPath(other)
    return first.is_relative_to(second) or second.is_relative_to(first)

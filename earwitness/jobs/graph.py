"""The jobs of a repository as DVC knows them: which waits for which, and which have changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage import Stage

from pipeline.errors import EarwitnessError

MAP = "dvc.yaml"


class JobGraph:
    """The jobs that ``dvc repro`` of some targets would look at.

    Args:
        root: of the repository.
        targets: jobs (``decode@soundscapes-edtc``), stages (``decode``) or outputs; none: all jobs.

    Raises:
        EarwitnessError: there is no such target, or DVC cannot read ``dvc.yaml``.
    """

    def __init__(self, root: Path, targets: Sequence[str] = ()) -> None:
        self._root = root.resolve()
        with _opened(self._root) as repository:
            graph = repository.index.graph
            known = {self._name(stage): stage for stage in repository.index.stages}
            asked = [name for target in targets for name in self._asked(target, known)]
            wanted: dict[str, None] = {}
            waiting = asked if targets else [*known]
            while waiting:
                name = waiting.pop()
                if name not in wanted:
                    wanted[name] = None
                    waiting += [self._name(each) for each in graph.successors(known[name])]
            # job → those that must have ended before it begins; in the order of dvc.yaml
            self.waits = {
                name: frozenset(map(self._name, graph.successors(stage)))
                for name, stage in known.items()
                if name in wanted
            }

    def changed(self, jobs: Iterable[str]) -> set[str]:
        """Those of ``jobs`` that DVC would run now, each looked at for itself, and all after them.

        While another DVC works in the repository nothing is certain: all.
        """
        jobs = set(jobs)
        try:
            with _opened(self._root) as repository, repository.lock:
                own = {
                    name
                    for stage in repository.index.stages
                    if (name := self._name(stage)) in jobs and stage.changed()
                }
        except LockError:
            return jobs
        return own | self.after(own)

    def after(self, names: Iterable[str]) -> set[str]:
        """The jobs that wait for any of these, directly or not."""
        before = set(names)
        found: set[str] = set()
        while new := {
            name for name, waits in self.waits.items() if waits & before and name not in found
        }:
            found |= new
            before = new
        return found

    def _name(self, stage: Stage) -> str:
        """As ``dvc repro`` takes it in the repository's folder."""
        file = Path(stage.path).relative_to(self._root).as_posix()
        name = getattr(stage, "name", None)
        if name is None:
            return file
        return str(name) if file == MAP else f"{file}:{name}"

    def _asked(self, target: str, known: dict[str, Stage]) -> list[str]:
        path = (self._root / target).resolve()
        found = [
            name
            for name, stage in known.items()
            if target in (name, name.partition("@")[0])
            or any(Path(out.fs_path) == path for out in stage.outs)
        ]
        if not found:
            raise EarwitnessError(
                f"{target}: no job, stage or output of {MAP}; `dvc stage list` shows the jobs"
            )
        return found


@contextmanager
def _opened(root: Path) -> Iterator[Repo]:
    """DVC's repository, whose refusals become one line."""
    try:
        with Repo(str(root)) as repository:
            yield repository
    except LockError:
        raise
    except DvcException as error:
        said = " ".join(str(error).split())
        raise EarwitnessError(f"{root}: DVC cannot read it ({said[:300]})") from None

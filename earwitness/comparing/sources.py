"""Where a run's files are: in the working tree, or as git and DVC had them at a revision.

Of a revision, ``params.yaml`` and ``dvc.lock`` are git's, and the results are those in DVC's cache
whose digests that ``dvc.lock`` has. Nothing is checked out, fetched or run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from earwitness.git import git_output
from earwitness.repository import Repository
from pipeline.errors import EarwitnessError, reason
from pipeline.files import read_json
from pipeline.yaml_files import parse_yaml, read_yaml


class Source(Protocol):
    """A run's files, by their paths in the repository."""

    @property
    def label(self) -> str:
        """Put behind a system's name; empty for the working tree."""

    @property
    def params(self) -> Mapping[str, Any]:
        """``params.yaml`` as it is written: an older revision's may not be valid today."""

    def path(self, name: str, job: str) -> Path:
        """A result that can be read; ``job`` is what makes it.

        Raises:
            EarwitnessError: it is not there.
        """


@dataclass(frozen=True)
class WorkingTree:
    """What is there now."""

    root: Path
    label: str = ""

    @cached_property
    def params(self) -> Mapping[str, Any]:
        path = self.root / "params.yaml"
        values: Mapping[str, Any] = read_yaml(path, "run `earwitness recipe`") or {}
        return values

    def path(self, name: str, job: str) -> Path:
        path = self.root / name
        if not path.is_file():
            raise EarwitnessError(f"{path}: not there yet; run `dvc repro {job}`")
        return path


class Revision:
    """A commit, a branch, a tag or an experiment.

    Raises:
        EarwitnessError: the repository has no such revision, or is none of git and DVC.
    """

    def __init__(self, repository: Repository, name: str) -> None:
        self.label, self.root = name, repository.root
        self._cache, self._commit = _resolved(self.root, name)

    @cached_property
    def params(self) -> Mapping[str, Any]:
        values: Mapping[str, Any] = self._yaml("params.yaml")
        return values

    @cached_property
    def _outputs(self) -> dict[str, str]:
        """Path → digest, of every output of every job."""
        stages = self._yaml("dvc.lock").get("stages", {})
        outs = [out for stage in stages.values() for out in stage.get("outs", ())]
        return {str(out["path"]): str(out["md5"]) for out in outs if "md5" in out}

    def path(self, name: str, job: str) -> Path:
        if (digest := self._outputs.get(name)) is not None:
            return self._cached(digest, name)
        folder, _, rest = name.rpartition("/")
        while folder:
            if (digest := self._outputs.get(folder)) is not None:
                return self._cached(self._within(digest, folder, rest), name)
            folder, _, more = folder.rpartition("/")
            rest = f"{more}/{rest}"
        raise EarwitnessError(
            f"{self.label}: its dvc.lock has no {name}; name a revision whose results were "
            f"committed (job {job})"
        )

    def _within(self, digest: str, folder: str, rest: str) -> str:
        listed = read_json(self._cached(digest, folder), "run `dvc gc` and `dvc pull`")
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, dict) and entry.get("relpath") == rest:
                return str(entry.get("md5"))
        raise EarwitnessError(f"{self.label}: {folder} had no {rest}; it has other systems")

    def _cached(self, digest: str, name: str) -> Path:
        # a digest is hexadecimal, perhaps with .dir behind it: it cannot lead out of the cache
        plain = digest.removesuffix(".dir")
        path = self._cache / plain[:2] / digest[2:]
        if not (plain.isalnum() and path.is_file()):
            raise EarwitnessError(
                f"{self.label}: {name} is not in DVC's cache; `dvc fetch --all-commits` gets what "
                f"a remote has, else run `dvc repro` in a checkout of {self.label}"
            )
        return path

    def _yaml(self, name: str) -> Any:
        said = git_output(self.root, "show", f"{self._commit}:./{name}")
        if said is None:
            raise EarwitnessError(f"{self.label}: has no {name}; name a revision that has one")
        text = said.decode("utf-8", errors="replace")
        return parse_yaml(text, f"{self.label}: {name}", "name another revision") or {}


def _resolved(root: Path, name: str) -> tuple[Path, str]:
    """The folder of DVC's cache, and a revision's commit."""
    from dvc.exceptions import DvcException  # half a second
    from dvc.repo import Repo
    from dvc.scm import NoSCM, SCMError, resolve_rev

    try:
        with Repo(str(root)) as repo:
            if isinstance(repo.scm, NoSCM):
                raise EarwitnessError(f"{root}: no git repository; --rev needs one")
            return Path(repo.cache.local.path), resolve_rev(repo.scm, name)
    except SCMError:
        raise EarwitnessError(
            f"--rev {name}: no commit, branch, tag or experiment of that name; `git log` and "
            "`dvc exp list` show those there are"
        ) from None
    except DvcException as error:
        raise EarwitnessError(f"{root}: {reason(error)}; --rev needs git and DVC") from None

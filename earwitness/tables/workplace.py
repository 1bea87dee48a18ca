"""A place to run one experiment beside the user's own: a git worktree with the same DVC cache.

Nothing of the user's workspace is read or written: not ``params.yaml``, not what is committed. The
code is that of the working tree, as ``dvc exp run`` takes it too: edits that are not committed are
part of it. Features and models come from DVC's run cache where any run of this repository made
them; raw audio, checkpoints and times stay in the original (``DVC_ROOT``). What was found about
DVC is in docs/dvc.md.
"""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from dvc.config import Config
from dvc.repo import Repo

from earwitness import params_file
from earwitness.tables.resolving import ENGINE, TableRun
from pipeline.config.datasets import BaseDatasetConfig
from pipeline.errors import EarwitnessError, reason
from pipeline.files import read_json, write_atomic, write_bytes, write_json
from pipeline.outside.named import model_files
from pipeline.yaml_files import read_yaml

FOLDER = Path("data/partial/tables")  # below the repository
CODE = ("pipeline", "stages", "earwitness", "dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config")
AUTHOR = ("-c", "user.name=earwitness", "-c", "user.email=earwitness@localhost")
HEAD = "# Written by `earwitness table`; the repository's own params.yaml is another file.\n"


class CodeRevision(NamedTuple):
    """The code as it is: the last commit, and a commit of what differs from it."""

    head: str
    snapshot: str  # is head where nothing differs

    def __str__(self) -> str:
        return self.head[:10] + ("" if self.head == self.snapshot else "+")


def revision_of(root: Path) -> CodeRevision:
    """The working tree's code; files that git ignores are no part of it.

    Raises:
        EarwitnessError: it is no git repository, or has no commit yet.
    """
    head = git(root, "rev-parse", "--verify", "HEAD^{commit}").strip()
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", head, **index)
        known = git(root, "ls-files", "--", *CODE, **index).splitlines()
        there = [name for name in CODE if (root / name).exists()]
        gone = [name for name in known if not (root / name).exists()]
        git(root, "add", "--all", "--", *there, **index)
        if gone:
            git(root, "rm", "--cached", "--quiet", "--ignore-unmatch", "--", *gone, **index)
        tree = git(root, "write-tree", **index).strip()
    if tree == git(root, "rev-parse", f"{head}^{{tree}}").strip():
        return CodeRevision(head, head)
    made = git(root, *AUTHOR, "commit-tree", tree, "-p", head, "-m", "the code of a table's run")
    return CodeRevision(head, made.strip())


class Workplace:
    """The folder of one run below ``data/partial/tables``.

    Args:
        root: of the repository.
        name: of the run.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self.folder = root / FOLDER / name
        self.tree = self.folder / "tree"  # where DVC runs
        self.log = self.folder / "log.txt"
        self.lock = self.folder / "lock"
        self.plans = self.tree / "data" / "plans"
        self.times = root / "data" / "times"  # of every run of this repository
        self._state = self.folder / "state.json"

    def prepare(self, run: TableRun, revision: CodeRevision) -> None:
        """Brings code and parameters to what the run asks for; what was made there stays.

        Raises:
            EarwitnessError: git or the disk refuses, or a file is named that cannot be reached.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.root / FOLDER / ".gitignore", "*\n")  # worktrees are no files of git's
        if self._commit() != revision.snapshot:
            self._check_out(revision)
        self._share()
        self._link_files(run)
        values = copy.deepcopy(run.values)
        values.update(self._computed_on())
        write_atomic(self.tree / "params.yaml", params_file.text(values, HEAD))

    def _computed_on(self) -> dict[str, Any]:
        """The user's own cluster, which is no part of what a table is made of."""
        path = self.root / "params.yaml"
        values = read_yaml(path, "run `git checkout params.yaml`") if path.is_file() else None
        own = values if isinstance(values, dict) else {}
        return {name: own[name] for name in ENGINE if name in own}

    def _commit(self) -> str | None:
        """The code that stands there whole; None: there is none."""
        if not (self._state.is_file() and (self.tree / ".git").is_file()):
            return None
        state = read_json(self._state, "remove it")
        return state.get("snapshot") if isinstance(state, dict) else None

    def _check_out(self, revision: CodeRevision) -> None:
        lock = self.tree / "dvc.lock"  # of what ran there: it stays, DVC compares it with what is
        kept = lock.read_bytes() if self._state.is_file() and lock.is_file() else None
        self._state.unlink(missing_ok=True)
        if kept is None:  # none yet, or one that was not finished
            shutil.rmtree(self.tree, ignore_errors=True)
            git(self.root, "worktree", "prune")
            git(self.root, "worktree", "add", "--force", "--detach", "--quiet", str(self.tree),
                revision.snapshot)  # fmt: skip
        else:
            git(self.tree, "checkout", "--force", "--detach", "--quiet", revision.snapshot)
            lock.write_bytes(kept)
        git(self.tree, "reset", "--soft", revision.head)  # experiments are shown below a commit
        write_json(self._state, {"snapshot": revision.snapshot})

    def _share(self) -> None:
        """DVC's cache, and raw audio, are the repository's own."""
        with Repo(str(self.root)) as repository:
            cache = repository.cache.local_cache_dir  # of files and of runs
        given, own = self.root / ".dvc" / "config.local", self.tree / ".dvc" / "config.local"
        write_bytes(own, given.read_bytes() if given.is_file() else b"")
        with Config(str(self.tree / ".dvc")).edit("local") as settings:
            settings.setdefault("cache", {})["dir"] = cache
        raw = self.tree / "data" / "raw"
        (self.root / "data" / "raw").mkdir(parents=True, exist_ok=True)
        if not raw.is_symlink():
            raw.parent.mkdir(parents=True, exist_ok=True)
            raw.symlink_to(self.root / "data" / "raw")

    def _link_files(self, run: TableRun) -> None:
        """Weights and datasets that are named by a path from the repository are found from there.

        They keep their names, which plans hold, so that what was made of them is found again.
        """
        for name in _paths(run):
            source, place = self.root / name, self.tree / name
            if Path(name).is_absolute() or not source.exists() or place.exists():
                continue
            whole = Path(os.path.normpath(place))
            if not whole.is_relative_to(self.root / FOLDER):
                raise EarwitnessError(
                    f"{name}: too far from the repository for a table's run; give it as a whole "
                    "path, or move it beside the repository"
                )
            whole.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                whole.symlink_to(source.resolve())


def git(folder: Path, *arguments: str, **environment: str) -> str:
    """What git says.

    Raises:
        EarwitnessError: there is no git, or it refuses; its own words are in the message.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise EarwitnessError(f"git cannot be run ({reason(error)}); install git") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[:300]
        raise EarwitnessError(
            f"{folder}: git {arguments[0]} failed ({said}); a table needs a git repository with a "
            "commit"
        )
    return done.stdout


def _paths(run: TableRun) -> Iterable[str]:
    """Every path in the parameters of a run, of weights, tokenizers and datasets."""
    yield from model_files(run.params)
    for dataset in run.params.datasets.values():
        if isinstance(dataset, BaseDatasetConfig) and (root := getattr(dataset, "root", None)):
            yield str(root)

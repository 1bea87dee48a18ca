"""What a killed DVC leaves behind: found, said, and repaired where no live process holds it.

DVC writes ``dvc.lock`` and ``.dvc/tmp/rwlock`` in place. Killed meanwhile it leaves them empty or
cut off, or a folder in its run cache without a run, and every later ``dvc repro`` fails on them.
Its other locks are the kernel's, which end with their holder.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.rwlock import SCHEMA as RWLOCK_SCHEMA
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

from earwitness.git import git_output
from pipeline.errors import EarwitnessError
from pipeline.files import write_bytes, writer_of

CONFLICT = b"<<<<<<< "  # git's, at the beginning of a line
DVC_WRITES = re.compile(r"\.[0-9A-Za-z_-]{22}\.tmp")  # beside what it checks out
DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")
PATIENCE = 10  # seconds that a process has to end


class Leftover(NamedTuple):
    """One thing that is in the way of ``dvc repro``; ``act`` does what ``remedy`` says."""

    what: str
    remedy: str
    act: Callable[[], object]

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def running_dvc(root: Path) -> str | None:
    """A live DVC that works in the repository, in words; None: there is none."""
    for process in psutil.process_iter():
        if _is_dvc_of(root, process):
            return f"process {process.pid}"
    for name in ("lock", "rwlock.lock"):
        if _is_held(root / ".dvc/tmp" / name):
            return f"a process that holds .dvc/tmp/{name}"
    return None


def leftovers(root: Path) -> Iterator[Leftover]:
    """What killed processes left in the repository. Only where :func:`running_dvc` is None."""
    for process, name in _stages_without_dvc(root):
        what = f"process {process.pid}, stage {name} of a DVC that was killed"
        yield Leftover(what, "ended; it goes on from what it saved", partial(_end, process))
    lock = root / "dvc.lock"
    if reason := _lock_fault(lock):
        committed = _committed(root)
        remedy = "the committed one is back" if committed else "removed; the run cache has its jobs"
        yield Leftover(f"dvc.lock, {reason}", remedy, partial(_restore, lock, committed))
    rwlock = root / ".dvc/tmp/rwlock"
    if reason := _rwlock_fault(rwlock, root):
        act = partial(rwlock.unlink, missing_ok=True)
        yield Leftover(f".dvc/tmp/rwlock, {reason}", "removed", act)
    for folder in _jobs_without_a_run(root):
        act = partial(shutil.rmtree, folder, ignore_errors=True)
        yield Leftover(f"{folder}, a job of DVC's run cache without a run", "removed", act)
    for path in _unfinished(root):
        act = partial(path.unlink, missing_ok=True)
        yield Leftover(f"{path.relative_to(root)}, half-written", "removed", act)


def repaired(root: Path) -> Iterator[str]:
    """Repairs all of them, and says each.

    Raises:
        EarwitnessError: DVC is running here, or ``dvc.lock`` holds what only a person can decide.
    """
    if live := running_dvc(root):
        raise EarwitnessError(
            f"{root}: DVC is running here ({live}); wait for it, or end it and run again"
        )
    if _has_conflict(root / "dvc.lock"):
        raise EarwitnessError(
            f"{root / 'dvc.lock'}: git left a merge conflict in it; "
            "take one side (git checkout --ours dvc.lock), then run again"
        )
    for found in leftovers(root):
        found.act()
        yield str(found)


def _end(process: psutil.Process) -> None:
    """Politely, then not."""
    with suppress(psutil.NoSuchProcess):
        process.terminate()
        try:
            process.wait(PATIENCE)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)


def _is_dvc(process: psutil.Process) -> bool:
    """By its command line: ``dvc …``, ``python …/dvc …`` or ``python -m dvc …``."""
    try:
        words = [Path(word).name for word in process.cmdline()[:4]]
    except psutil.Error:  # it has ended, or is a zombie, or nobody's business
        return False
    return bool(words) and (words[0] == "dvc" or (words[0].startswith("python") and "dvc" in words))


def _is_dvc_of(root: Path, process: psutil.Process) -> bool:
    try:
        return _is_dvc(process) and Path(process.cwd()).is_relative_to(root.resolve())
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True  # another user's DVC: who knows


def _is_held(path: Path) -> bool:
    """Whether a process holds one of DVC's locks, which are the kernel's."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _stages_without_dvc(root: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Processes, with the stage's name as DVC gave it."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended, or is another user's
            match process.cmdline():
                case [_, "-m", module, *_] if module.startswith("stages."):
                    given = process.environ()
                    here = given.get("DVC_ROOT") == str(root.resolve())
                    if here and not any(_is_dvc(parent) for parent in process.parents()):
                        yield process, given["DVC_STAGE"]


def _lock_fault(path: Path) -> str | None:
    """Why DVC could not read its ``dvc.lock``; None: it can, or there is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if not content.strip():
        return "empty"
    try:
        lock = COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(content.decode()))
    except (YAMLError, ValueError, Invalid):
        return None if _has_conflict(path) else "cut off"
    jobs = lock.get("stages", {}).values()
    files = (file for job in jobs for file in (*job.get("deps", ()), *job.get("outs", ())))
    return None if all(map(_has_digest, files)) else "cut off"


def _has_digest(file: dict[str, Any]) -> bool:
    """Whether an entry of ``dvc.lock`` is whole; DVC itself fails on one that was cut."""
    return "://" in file["path"] or DIGEST.fullmatch(str(file.get("md5"))) is not None


def _has_conflict(path: Path) -> bool:
    return path.is_file() and any(line.startswith(CONFLICT) for line in path.open("rb"))


def _committed(root: Path) -> bytes | None:
    """The ``dvc.lock`` of git's last commit; None: there is none."""
    said = git_output(root, "show", "HEAD:./dvc.lock")
    return said if said and said.strip() else None


def _restore(path: Path, committed: bytes | None) -> None:
    """Jobs that ran after the commit come from DVC's run cache."""
    if committed is None:
        path.unlink()
    else:
        write_bytes(path, committed)


def _rwlock_fault(path: Path, root: Path) -> str | None:
    """Why it would stop DVC; None: it would not, or there is none."""
    try:
        lock = RWLOCK_SCHEMA(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, Invalid):
        return "empty" if path.stat().st_size == 0 else "cut off"
    readers = (reader for readers in lock["read"].values() for reader in readers)
    for holder in (*lock["write"].values(), *readers):
        with suppress(psutil.NoSuchProcess):
            if not _is_dvc_of(root, psutil.Process(holder["pid"])):
                return f"held by process {holder['pid']}, which is no DVC of here"
    return None


def _jobs_without_a_run(root: Path) -> Iterator[Path]:
    """Folders that DVC made for a run, and was killed before it wrote there; it fails on them."""
    try:
        with Repo(str(root)) as repository:
            runs = Path(repository.stage_cache.cache_dir)
    except DvcException:  # no repository of DVC's; or its settings are broken, which it says itself
        return
    for folder in runs.glob("*/*"):
        if all(DVC_WRITES.fullmatch(path.name) for path in folder.iterdir()):
            yield folder


def _unfinished(root: Path) -> Iterator[Path]:
    """Files of ours whose writer has ended, and those that DVC was putting in place."""
    for folder in (root / "data", root / "metrics"):
        for path in folder.rglob(".*[~.]*"):
            writer = writer_of(path)
            if DVC_WRITES.fullmatch(path.name) or (writer and not psutil.pid_exists(writer)):
                yield path

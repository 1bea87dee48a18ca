"""A whole job on a cluster's worker: what it reads goes there, and the folder that it makes comes
back, so that the process that asked for it writes all files.

A node that has the asking process's folder, as on a shared disk, reads it there, and its training
keeps its checkpoints there too: after a lost worker it goes on from the last one. Any other node
is sent the files, and after a loss the job begins anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.engine.cluster import Cluster
from pipeline.errors import EarwitnessError

CHECKPOINTS = "data/checkpoints"  # below the original repository


@dataclass(frozen=True)
class WholeJob:
    """A stage that makes one folder; all paths are relative to ``folder``."""

    command: tuple[str, ...]  # the stage's module, and its arguments
    plan: str  # a file
    reads: tuple[str, ...]  # files and folders
    output: str  # a folder
    folder: str  # of the process that asks for it, which is absolute
    root: str  # the original repository, which has the checkpoints
    threads: int


@dataclass(frozen=True)
class Made:
    """What a job made."""

    files: Mapping[str, bytes]  # below its output
    said: str


@dataclass(frozen=True)
class Absent:
    """The node has not what the job reads."""


def run_there(cluster: Cluster, job: WholeJob, cpus: float, gpus: float) -> Made:
    """Runs a job on a node of the cluster.

    Raises:
        EarwitnessError: its own error; or no node has room, or workers were lost too often.
    """
    sizes = {name: path.stat().st_size for name, path in _files(job).items()}
    plan = (Path(job.folder) / job.plan).read_bytes()
    made = cluster.start(run_here, job, plan, sizes, {}, cpus=cpus, gpus=gpus).result()
    if isinstance(made, Absent):  # of no shared disk, so all that it reads is sent
        import ray

        sent = {name: ray.put(path.read_bytes()) for name, path in _files(job).items()}
        made = cluster.start(run_here, job, plan, sizes, sent, cpus=cpus, gpus=gpus).result()
    if isinstance(made, Absent):
        raise EarwitnessError(f"{job.plan}: what it reads did not reach the cluster; run it again")
    return made


def _files(job: WholeJob) -> dict[str, Path]:
    """All files that a job reads, by their names."""
    folder, found = Path(job.folder), dict[str, Path]()
    for name in (job.plan, *job.reads):
        if PurePosixPath(name).is_absolute():
            continue  # every node must have it
        whole = folder / name
        if not Path(os.path.normpath(whole)).is_relative_to(folder):
            raise EarwitnessError(
                f"{name}: not below the repository; give it as a whole path, which every node of "
                "the cluster has"
            )
        inner = sorted(whole.rglob("*")) if whole.is_dir() else [whole]
        found |= {path.relative_to(folder).as_posix(): path for path in inner if path.is_file()}
    return found


def run_here(
    job: WholeJob, plan: bytes, sizes: Mapping[str, int], sent: Mapping[str, Any]
) -> Made | Absent:
    """On the worker: runs the stage in a folder of its own.

    Args:
        plan: what its file contains, by which a folder of the same name is known to be the same.
        sizes: bytes of each file that it reads.
        sent: references of their contents in the cluster's object store; none: they were not sent.
    """
    shared = _is_shared(job, plan, sizes)
    if not (shared or sent):
        return Absent()
    with TemporaryDirectory(prefix="earwitness-") as own:
        for name in sizes:
            path = Path(own) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if shared:
                path.symlink_to(Path(job.folder) / name)
            else:
                import ray

                path.write_bytes(ray.get(sent[name]))
        if shared:
            kept = Path(job.root) / CHECKPOINTS
            kept.mkdir(parents=True, exist_ok=True)
            (Path(own) / CHECKPOINTS).symlink_to(kept)
        said = _run(job, own)
        output = Path(own) / job.output
        found = {path.relative_to(output).as_posix(): path for path in sorted(output.rglob("*"))}
        files = {name: path.read_bytes() for name, path in found.items() if path.is_file()}
        return Made(files, said)


def _is_shared(job: WholeJob, plan: bytes, sizes: Mapping[str, int]) -> bool:
    """Whether this node has the folder of the process that asked."""
    folder = Path(job.folder)
    try:
        same = all((folder / name).stat().st_size == size for name, size in sizes.items())
        return same and (folder / job.plan).read_bytes() == plan and Path(job.root).is_dir()
    except OSError:
        return False


def _run(job: WholeJob, own: str) -> str:
    """What the stage said."""
    module, *arguments = job.command
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": str(job.threads),
        "TQDM_DISABLE": "1",
        "DVC_ROOT": own,
        "DVC_STAGE": module,  # it ends with this worker
    }
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=own,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        errors = [line for line in lines if line.startswith("error: ")]
        raise EarwitnessError((errors or lines)[-1].removeprefix("error: "))
    return done.stdout

"""A full disk, a folder that is read-only, too little memory: one line, and all goes on after it.

The stages of a tiny pipeline, on a real small file system, which only root can mount.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from kills import JOBS, PLAN, SMALL, Job, attempt, finish, import_all, remove, same, snapshot
from project import Project
from safetensors.torch import save_file

from earwitness.repair import repaired
from pipeline.files import replacing
from pipeline.refusals import refusal, reported

TRIED = [job for job in JOBS if job.stage not in ("evaluate", "report")]  # Java takes long
HEAVY = [job for job in TRIED if job.stage != PLAN]


class Disk:
    """A pipeline whose stages have all run, on a file system of its own.

    ``clean``: a process that forks the stages, as one in which torch has started its own threads,
    like that of other tests, may not.
    """

    def __init__(self, root: Path, clean: ProcessPoolExecutor) -> None:
        self.mount, self.clean = root, clean
        self.root = Project(root, SMALL).root
        for job in TRIED:
            self.finish(job)
        self.expected = snapshot(self.root, "data", "metrics", "intervals")

    def attempt(self, job: Job) -> tuple[int, str]:
        """Exit code, and what it said, which is kept elsewhere."""
        return self.clean.submit(attempt, job, self.root, self.mount.parent / "said").result()

    def finish(self, job: Job) -> None:
        self.clean.submit(finish, job, self.root).result()

    def goes_on(self, job: Job) -> None:
        list(repaired(self.root))
        self.finish(job)
        same(snapshot(self.root, "data", "metrics", "intervals"), self.expected, str(job))


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a file system")
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, spawn, initializer=import_all) as clean:
            yield Disk(folder, clean)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("job", HEAVY, ids=str)
def test_a_full_disk(disk: Disk, job: Job) -> None:
    remove(disk.root, job)  # more room for the ballast
    ballast = disk.mount / "ballast"
    with ballast.open("wb") as stream:
        room = os.statvfs(disk.mount)
        os.posix_fallocate(stream.fileno(), 0, room.f_bavail * room.f_frsize)
    code, said = disk.attempt(job)
    ballast.unlink()
    disk.goes_on(job)
    is_one_line(code, said, "No space left on device; free some space, then run again: ")


@pytest.mark.parametrize("job", HEAVY, ids=str)
def test_a_folder_that_is_read_only(disk: Disk, job: Job) -> None:
    remove(disk.root, job)
    subprocess.run(["mount", "-o", "remount,ro", disk.mount], check=True)
    try:
        code, said = disk.attempt(job)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk.mount], check=True)
    disk.goes_on(job)
    is_one_line(code, said, "Read-only file system; work in a folder that can be written")


def is_one_line(code: int, said: str, words: str) -> None:
    """At the end; what a stage says of its progress stands before."""
    assert code == 1 and "Traceback" not in said, said
    last = said.splitlines()[-1]
    assert re.match(f"error: [^ ~]+: {words}", last), said
    assert said.count("error: ") == 1, said


def too_little_for_torch() -> None:
    torch.empty(1 << 50)


def too_little_for_numpy() -> None:
    np.empty(1 << 50)


def too_little_to_map() -> None:
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, limit[1]))
    try:
        mmap.mmap(-1, 1 << 33)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)


def too_many_open() -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit[1]))
    try:
        with ExitStack() as opened:
            for _ in range(99):
                opened.enter_context(Path(os.devnull).open(encoding="utf-8"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def too_long_a_file(write: Callable[[Path], object]) -> Callable[[], None]:
    """In place of a full disk, for whoever is not root."""

    def attempt() -> None:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
        try:
            with tempfile.TemporaryDirectory() as folder, replacing(Path(folder) / "big") as path:
                write(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            signal.signal(signal.SIGXFSZ, before)

    return attempt


def write_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["values"] = np.zeros(1 << 20)


ZEROS = torch.zeros(1 << 16)


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (too_little_for_torch, "Cannot allocate memory; close other programs"),
        (too_little_for_numpy, "Cannot allocate memory; close other programs"),
        (too_little_to_map, "Cannot allocate memory; close other programs"),
        (too_many_open, "/dev/null: Too many open files; raise the limit on open files"),
        (too_long_a_file(lambda path: path.write_bytes(bytes(9999))), "/big: File too large; "),
        (too_long_a_file(write_h5), "/big: File too large; raise the limit on the size"),
        (too_long_a_file(lambda path: save_file({"a": ZEROS}, path)), "/big: File too large; "),
    ],
)
def test_what_the_machine_refuses_is_told_from_bugs(
    attempt: Callable[[], None], words: str
) -> None:
    """By the real error of each library."""
    with pytest.raises(Exception) as caught:
        attempt()
    line = refusal(caught.value)
    assert line is not None and words in line and "\n" not in line


def test_a_bug_keeps_its_traceback() -> None:
    for bug in (ValueError("7"), RuntimeError("shape [2] is invalid"), FileNotFoundError(2, "x")):
        assert refusal(bug) is None
        with pytest.raises(type(bug)), reported():
            raise bug


@pytest.mark.parametrize("module", ["stages.prepare", "earwitness"])
def test_ctrl_c_is_one_line(module: str) -> None:
    """Reading that takes a minute stands for long work."""
    code = (
        f"import sys, time\nimport {module}\n"
        "def wait(*_):\n    print('at work', flush=True)\n    time.sleep(60)\n"
    )
    if module == "earwitness":
        code += "from earwitness import scoring\nscoring.read_captions = wait\n"
        code += "from earwitness.cli import main\nsys.argv[1:] = ['score', 'x.csv']\nmain()\n"
    else:
        code += "stages.prepare.load_params = wait\n"
        code += "from stages.run import run\nsys.argv[1:] = ['x']\nrun(stages.prepare.main)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # tests that a shell started in the background have it ignored, and so would this process
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted: run it again to go on\n")


@pytest.mark.parametrize("command", [["stages.evaluate", "x"], ["earwitness", "caption", "x.wav"]])
def test_too_little_memory_to_begin_is_one_line(command: list[str]) -> None:
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 400000; exec "$0" -m "$@"', sys.executable, *command],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: Cannot allocate memory; close other programs")
    assert done.stderr.count("\n") == 1

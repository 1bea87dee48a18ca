"""Jobs that compute on one machine at a time divide its cores, by what the kernel says of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

OWN = ("OMP_", "GOMP_", "OPENBLAS_", "RAYON_", "MKL_", "EARWITNESS_")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
CORES = 6
JOB = f"""
import os, sys
os.sched_getaffinity = lambda process: set(range({CORES}))
import stages
from pipeline.threads import limit, share
limit(sys.argv[1] if sys.argv[1] == "auto" else int(sys.argv[1]))
print(share(100), flush=True)
sys.stdin.read()
"""


class Jobs:
    """Processes that have begun to compute, and go on until they are told to end."""

    def __init__(self, meeting: Path) -> None:
        self.meeting = meeting
        self.all: list[subprocess.Popen[str]] = []

    def start(self, threads: str = "auto", **environment: str) -> int:
        """The threads of one job more."""
        job = subprocess.Popen(
            [sys.executable, "-c", JOB, threads],
            cwd=REPOSITORY,
            env={**CLEAN, "TMPDIR": str(self.meeting), **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.all.append(job)
        assert job.stdout is not None
        return int(job.stdout.readline())

    def end(self, kill: bool = False) -> None:
        """The one that began first."""
        job = self.all.pop(0)
        if kill:
            job.kill()
        job.communicate(timeout=60)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    jobs = Jobs(tmp_path)
    yield jobs
    while jobs.all:
        jobs.end(kill=True)


def test_each_takes_an_equal_part_of_the_cores(jobs: Jobs) -> None:
    assert jobs.start() == CORES  # alone: as it always was
    assert jobs.start() == CORES // 2
    assert jobs.start() == CORES // 3
    jobs.end()
    jobs.end(kill=True)  # one that was killed is not counted either
    assert jobs.start() == CORES // 2
    assert len([*jobs.meeting.glob("earwitness-*/*.job")]) == 2


def test_what_a_person_said_is_kept_and_counted(jobs: Jobs) -> None:
    assert jobs.start("5") == 5
    assert jobs.start("5") == 5
    assert jobs.start(OMP_NUM_THREADS="4") == CORES  # of the process: nothing was divided
    assert jobs.start() == max(1, CORES // 4)
    assert jobs.start(EARWITNESS_JOBS="100") == 1  # never none


def test_jobs_that_are_known_to_come_are_counted_before_they_are_there(jobs: Jobs) -> None:
    assert jobs.start(EARWITNESS_JOBS="3") == 2
    assert jobs.start(EARWITNESS_JOBS="1") == 3


def test_without_a_temporary_folder_nothing_is_left_in_the_repository(tmp_path: Path) -> None:
    broken = "import tempfile, os; tempfile.tempdir = os.getcwd()"  # as Python does in the end
    job = JOB.replace("import stages", f"{broken}; import stages")
    done = subprocess.run(
        [sys.executable, "-c", job, "auto"], cwd=tmp_path, input="", capture_output=True, text=True,
        env={**CLEAN, "PYTHONPATH": str(REPOSITORY)}, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"{CORES}\n"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("said", ["two", "0", "-1", "9" * 5000, "²", ""])
def test_a_number_of_jobs_that_is_none_is_one_line(said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.plan", "systems"],
        cwd=REPOSITORY, env={**CLEAN, "EARWITNESS_JOBS": said}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"error: EARWITNESS_JOBS={said}: not a number of jobs, such as 4\n"


@pytest.mark.parametrize("made", ["a file", "nothing", "of somebody else"])
def test_a_folder_that_cannot_be_used_fails_no_job(
    tmp_path: Path, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.beside import join

    folder = tmp_path / "jobs"
    if made == "a file":
        folder.write_text("x", encoding="utf-8")
    elif made == "of somebody else":
        folder.mkdir()
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert join(folder) == 1
    assert folder.is_file() == (made == "a file")
    assert [*tmp_path.glob("jobs/*.job")] == ([] if made != "nothing" else [folder / own()])


def own() -> str:
    return f"{os.getpid()}.job"

"""What a killed DVC leaves, and that it is repaired: real DVC on two quick stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dvc.dvcfile import LOCK_FILE, Lockfile
from dvc.repo import Repo
from dvc_objects.fs.utils import tmp_fname
from kills import own_dvc

from earwitness.doctor import examine
from earwitness.repair import leftovers, repaired, running_dvc
from earwitness.repository import Repository
from pipeline.errors import EarwitnessError
from pipeline.files import replacing

STAGES = """
stages:
  copy: {cmd: cp params.yaml copied, deps: [params.yaml], outs: [copied]}
  again: {cmd: "cp copied again; sleep ${wait}", deps: [copied], outs: [again]}
"""
RUN_CACHE = "removed; the run cache has its jobs"
COMMITTED = "the committed one is back"


class Toy:
    """A repository of two stages that copy a file."""

    def __init__(self, root: Path) -> None:
        self.root = root / "é (2)"
        self.root.mkdir()
        self.environment = own_dvc(root)
        (self.root / "dvc.yaml").write_text(STAGES, encoding="utf-8")
        (self.root / "params.yaml").write_text("wait: 0\n", encoding="utf-8")
        self.git("init", "-q")
        self.dvc("init", "-q")
        self.dvc("repro", "-q")

    @property
    def lock(self) -> Path:
        return self.root / "dvc.lock"

    @property
    def rwlock(self) -> Path:
        return self.root / ".dvc/tmp/rwlock"

    def git(self, *arguments: str) -> None:
        names = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
        subprocess.run(["git", *names, *arguments], cwd=self.root, check=True)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "all")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.root, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def dvc(self, *arguments: str, fails: str = "") -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert (process.returncode != 0) == bool(fails) and fails in err, err
        return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return Toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def toy(made: Toy) -> Iterator[Toy]:
    """As it was after its ``dvc repro``, and nothing committed."""
    lock = made.lock.read_bytes()
    yield made
    made.lock.write_bytes(lock)
    made.rwlock.unlink(missing_ok=True)


def test_an_empty_lock_is_removed_and_the_run_cache_gives_all_back(toy: Toy) -> None:
    before = toy.lock.read_bytes()
    toy.lock.write_bytes(b"")
    toy.dvc("repro", fails="validation failed")  # what people met
    assert [*repaired(toy.root)] == [f"dvc.lock, empty: {RUN_CACHE}"]
    out = toy.dvc("repro")
    assert "cached" in out and "Running" not in out and toy.lock.read_bytes() == before
    assert [*repaired(toy.root)] == []


def test_every_cut_of_a_lock_is_repaired_or_is_one_that_dvc_reads(toy: Toy) -> None:
    whole = toy.lock.read_bytes()
    broken = 0
    repository = Repo(str(toy.root))
    for cut in range(0, len(whole), 3):
        toy.lock.write_bytes(whole[:cut])
        broken += len([*repaired(toy.root)])
        lock = Lockfile(repository, str(toy.root / LOCK_FILE)).load()  # raises where DVC could not
        for job in lock.get("stages", {}).values():
            digests = [file.get("md5", "") for file in (*job.get("deps", ()), *job.get("outs", ()))]
            assert all(len(digest) == 32 for digest in digests), cut
    assert 20 < broken < len(whole) / 3
    repository.close()


def test_a_job_of_the_run_cache_without_its_run_is_removed(toy: Toy) -> None:
    """As where DVC was killed between making a run's folder and putting the run there."""
    before = toy.lock.read_bytes()
    runs = toy.root / ".dvc/cache/runs"
    (run, *_) = [path for path in runs.glob("*/*/*") if b"copied" in path.read_bytes()]
    kept = run.read_bytes()
    for name in (None, ".j3Mp5i9ES_mya3vRx-Iy0Q.tmp"):
        run.unlink(missing_ok=True)
        if name is not None:
            run.with_name(name).write_bytes(kept[:20])
        toy.lock.unlink()
        if name is None:
            toy.dvc("repro", fails="join() argument must be str")  # what people would meet
        (found,) = repaired(toy.root)
        assert found == f"{run.parent}, a job of DVC's run cache without a run: removed"
        toy.dvc("repro")
        assert run.read_bytes() == kept and toy.lock.read_bytes() == before


def test_an_empty_or_cut_or_void_rwlock_is_removed(toy: Toy) -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    void = {"write": {str(toy.root / "copied"): {"pid": sleeper.pid, "cmd": "dvc repro"}}}
    for content, words in (
        ("", "corrupted"),
        ('{"write": {"/a', "corrupted"),
        (json.dumps(void), "is being blocked by"),  # the system gave the number anew
    ):
        toy.rwlock.write_text(content, encoding="utf-8")
        toy.dvc("repro", fails=words)
        (found,) = repaired(toy.root)
        assert found.startswith(".dvc/tmp/rwlock, ") and found.endswith(": removed")
        assert "up to date" in toy.dvc("repro")
    sleeper.kill()
    sleeper.wait()


def test_a_live_dvc_is_left_alone(toy: Toy) -> None:
    (toy.root / "params.yaml").write_text("wait: 60\n", encoding="utf-8")
    running = toy.start("repro")
    try:
        wait_until(lambda: "sleep" in {child.name() for child in children(running.pid)})
        held = toy.rwlock.read_bytes()
        assert str(running.pid).encode() in held
        toy.rwlock.write_bytes(b"")
        assert running_dvc(toy.root) == f"process {running.pid}"
        with pytest.raises(EarwitnessError, match=f"process {running.pid}.*wait for it"):
            [*repaired(toy.root)]
        assert toy.rwlock.read_bytes() == b""
        (first, *_) = examine(Repository(toy.root))
        assert (first.there, first.detail) == (True, f"running: process {running.pid}")
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        (toy.root / "params.yaml").write_text("wait: 0\n", encoding="utf-8")
    (first, *_) = examine(Repository(toy.root))
    assert not first.there and "rwlock, empty" in first.detail
    assert len([*repaired(toy.root)]) == 1


def test_the_committed_lock_comes_back_and_a_conflict_is_a_persons(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.commit()
    before = toy.lock.read_bytes()
    toy.lock.write_bytes(before[: before.index(b"md5:") + 3])
    assert [*repaired(toy.root)] == [f"dvc.lock, cut off: {COMMITTED}"]
    assert toy.lock.read_bytes() == before and "up to date" in toy.dvc("repro")
    conflict = b"<<<<<<< HEAD\n" + before + b"=======\n>>>>>>> other\n"
    toy.lock.write_bytes(conflict)
    with pytest.raises(EarwitnessError, match="merge conflict"):
        [*repaired(toy.root)]
    assert toy.lock.read_bytes() == conflict


def test_what_a_killed_writer_left_is_removed_and_what_a_live_one_writes_stays(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data/predictions"
    ours = "import os, sys; sys.path[:0] = sys.argv[2:]; from pathlib import Path; "
    code = ours + "from pipeline.files import replacing\n"
    code += "with replacing(Path(sys.argv[1])) as path: path.touch(); os.kill(os.getpid(), 9)"
    root = str(Path(__file__).parents[1])
    subprocess.run([sys.executable, "-c", code, folder / "toy.csv", root], check=False)
    (left,) = folder.iterdir()
    by_dvc = folder / tmp_fname()
    by_dvc.touch()
    with replacing(folder / "other.csv") as writing:
        assert {str(found) for found in leftovers(tmp_path)} == {
            f"data/predictions/{name}, half-written: removed" for name in (left.name, by_dvc.name)
        }
        assert len([*repaired(tmp_path)]) == 2
        assert [*folder.iterdir()] == [writing]


def wait_until(true: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def children(process: int) -> list[psutil.Process]:
    return psutil.Process(process).children(recursive=True)

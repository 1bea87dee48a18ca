"""What each job took: ``data/times/<stage>/<job>/<plan>.json``, beside what DVC tracks.

Times differ from run to run, so they are no output of a stage: nothing depends on them, and no
digest holds them. A record is named by the job's plan, so it is found for what was made by that
plan, also after DVC gave it back from its cache.
"""

from __future__ import annotations

import platform
import resource
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import EarwitnessError
from pipeline.files import read_json, sha256, write_json
from pipeline.threads import cores

NO_PLAN = "none"  # of a stage that has no plan, such as `prepare`
SECONDS_APART = 10.0  # of two records of a job that is running


@dataclass(frozen=True)
class StageTime:
    """One job's time; of a job that was stopped and went on, all runs together."""

    stage: str  # such as "train_captioner"
    job: tuple[str, ...]  # its arguments, such as ("edtc", "1")
    plan: str  # SHA-256 of its plan's file, or NO_PLAN
    started: str  # of the first run: UTC, ISO 8601
    seconds: float
    cpu_seconds: float  # of all threads and child processes
    peak_memory: int  # bytes, of the process or of its largest child
    cpu: str
    cores: int  # that the process may use
    gpu: str | None
    revision: str | None  # of the code: git's commit, with "+" where files are changed
    finished: bool
    threads: int | None = None  # that torch computed with; None: without torch, or not known


_RECORD = TypeAdapter(StageTime)


class Stopwatch:
    """Measures the job that this process runs, from entering it to leaving it.

    Args:
        folder: ``data/times``.
        revision: of the code.
    """

    def __init__(self, folder: Path, stage: str, job: Sequence[str], revision: str | None) -> None:
        self.folder = folder / stage / "-".join(job or ("all",))
        self.stage, self.job, self.revision = stage, job, revision
        self.plan = NO_PLAN
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.before, self.cpu_before = 0.0, 0.0  # of earlier runs that were stopped
        self._start = time.perf_counter()
        self._ended, self._left = threading.Event(), False
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def given(self, plan: Path) -> None:
        """The job's plan: from now on, its record is that plan's.

        A run that was stopped left its time there, and this one adds to it.
        """
        self.plan = sha256(plan)
        last = _read(self._path)
        if last is not None and not last.finished:
            self.started, self.before = last.started, last.seconds
            self.cpu_before = last.cpu_seconds

    def leave(self) -> None:
        """From now on another process, which works for the same job, records it."""
        self._left = True

    def __enter__(self) -> Stopwatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._write(finished=kind is None)

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.plan}.json"

    def _repeat(self) -> None:
        """So that a job which is killed leaves its time."""
        while not self._ended.wait(SECONDS_APART):
            self._write(finished=False)

    def _write(self, finished: bool) -> None:
        if self._left:
            return
        uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
        record = StageTime(
            stage=self.stage,
            job=tuple(self.job),
            plan=self.plan,
            started=self.started,
            seconds=round(self.before + time.perf_counter() - self._start, 2),
            cpu_seconds=round(self.cpu_before + sum(u.ru_utime + u.ru_stime for u in uses), 2),
            peak_memory=max(use.ru_maxrss for use in uses) * unit,
            cpu=processor(),
            cores=cores(),
            gpu=_graphics(),
            revision=self.revision,
            finished=finished,
            threads=_threads(),
        )
        with suppress(OSError):  # a full disk: a job never fails for its time
            write_json(self._path, asdict(record))


def read_times(folder: Path) -> list[StageTime]:
    """Every record in ``data/times``, in the order in which they began; broken ones left out."""
    found = [_read(path) for path in sorted(folder.glob("*/*/*.json"))]
    return sorted((each for each in found if each), key=lambda each: each.started)


def time_of(folder: Path, plan: Path) -> StageTime | None:
    """The finished record of the job whose plan lies at ``plan``; None: there is none."""
    if not plan.is_file():
        return None
    found = [_read(path) for path in sorted(folder.glob(f"*/*/{sha256(plan)}.json"))]
    return next((each for each in found if each and each.finished), None)


def processor() -> str:
    """The name of this machine's processor."""
    about = Path("/proc/cpuinfo")  # of Linux
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_num_threads"):  # none, or it is being imported
        return None
    return int(torch.get_num_threads())


def _graphics() -> str | None:
    """The name of the GPU, where the job has begun to use one."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return None
    return str(torch.cuda.get_device_name())


def _read(path: Path) -> StageTime | None:
    try:
        return _RECORD.validate_python(read_json(path, "remove it"))
    except (EarwitnessError, ValidationError):
        return None

"""Starts the processes of one training on this machine, and ends them together."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pipeline.errors import EarwitnessError

MEETING = "EARWITNESS_MEETING"  # a process started here has it: where it finds the others
LOST = 75  # exit code of a process that ends because another one did
GRACE = 10.0  # seconds that the others have to end by themselves
APART = 0.05  # between two looks
AGAIN = "run it again: it goes on from the last checkpoint"


def run_ranks(command: Sequence[str], count: int, environment: Mapping[str, str]) -> None:
    """Runs ``command`` in ``count`` processes, to the end of all.

    They find in the environment what ``torchrun`` gives: RANK, LOCAL_RANK, WORLD_SIZE and
    LOCAL_WORLD_SIZE. The first writes to this process' streams; of the others is shown only why
    training ended. None outlives this process, on Linux even where it is killed.

    Raises:
        EarwitnessError: a process other than the first failed, or one was killed.
        SystemExit: the first failed, and has said why; or this process was asked to end.
    """
    with tempfile.TemporaryDirectory(prefix="earwitness-ranks-") as name, _ended_by_signals():
        folder, processes = Path(name), []
        try:
            for number in range(count):
                processes.append(_start(command, number, count, environment, folder))
            codes = _wait(processes)
        finally:
            _end(processes)
        said = [_said(folder, number) for number in range(count)]
    if any(codes):
        _report(codes, said)


def _start(
    command: Sequence[str], number: int, count: int, environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    given = {
        **environment,
        MEETING: (folder / "meeting").as_uri(),
        **dict.fromkeys(("RANK", "LOCAL_RANK"), str(number)),
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(count)),
    }
    own = {"env": given, "stdin": subprocess.DEVNULL, "start_new_session": True}  # Ctrl-C is ours
    if number == 0:
        return subprocess.Popen(command, **own)  # type: ignore[call-overload, no-any-return]
    with (folder / str(number)).open("wb") as errors:
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            command, stdout=subprocess.DEVNULL, stderr=errors, **own
        )


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Exit codes when all have ended, or some time after one failed: None of one that goes on."""
    failed: float | None = None
    while True:
        codes = [process.poll() for process in processes]
        if None not in codes:
            return codes
        if failed is None and any(codes):
            failed = time.monotonic()
        if failed is not None and time.monotonic() - failed > GRACE:
            return codes
        time.sleep(APART)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Politely, then not."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _said(folder: Path, number: int) -> str:
    file = folder / str(number)
    return file.read_text(encoding="utf-8", errors="replace").strip() if file.is_file() else ""


def _report(codes: Sequence[int | None], said: Sequence[str]) -> None:
    """Ends with why training failed: what the process says that did not end for another's sake."""
    guilty = [number for number, code in enumerate(codes) if code not in (None, 0, LOST)]
    lost = [number for number, code in enumerate(codes) if code == LOST]
    number = min(guilty) if guilty else max(lost)  # of which the first says nothing
    code, line = codes[number] or 0, said[number].rpartition("\n")[2]
    if code < 0:
        name = signal.Signals(-code).name
        why = ", as the system does where memory runs out" if -code == signal.SIGKILL else ""
        raise EarwitnessError(
            f"process {number + 1} of {len(codes)} was ended by {name}{why}; {AGAIN}"
        )
    if line.startswith("error: "):
        raise EarwitnessError(line.removeprefix("error: "))
    if code == LOST:
        raise EarwitnessError(f"the processes of this training lost each other; {AGAIN}")
    if said[number]:  # a bug, with its traceback
        print(said[number], file=sys.stderr)
    raise SystemExit(code)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends this process as an error does, so that it ends the others."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""One run of a job at a time, by a lock that the kernel gives back when its holder dies."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import EarwitnessError

TRIES, PAUSE = 3, 0.02  # seconds: who removes what killed holders left holds a lock for a moment


@contextmanager
def exclusive(path: Path, wait: bool = False, what: str = "") -> Iterator[None]:
    """Holds ``path``, a file that exists only while it is held, for the length of the block.

    Killing ``dvc`` with -9 leaves its stage alive, and the next ``dvc repro`` starts a second one
    beside it: the second is refused here. A file left by a killed holder is taken over.

    Args:
        wait: for another process that holds it, instead of an error.
        what: with ``wait``: what that process does, which is said before waiting.

    Raises:
        EarwitnessError: another process holds it, and ``wait`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquire(path, wait, what)
    try:
        os.truncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # still held: no one else can have taken this file
        os.close(handle)


@contextmanager
def one_writer(folder: Path, job: str, output: Path) -> Iterator[None]:
    """Holds a lock in ``folder`` for the length of the block: one writer of ``output`` at a time.

    Raises:
        EarwitnessError: another process of this job writes there.
    """
    for left in folder.glob(f"{glob.escape(job)}-to-*.lock"):
        with suppress(EarwitnessError), exclusive(left):
            pass  # and it is removed: its holder was killed, and wrote elsewhere
    where = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:8]
    with exclusive(folder / f"{job}-to-{where}.lock"):
        yield


def is_awaited(path: Path) -> bool:
    """Whether another process waits for the lock ``path``, which this one holds."""
    for own in path.parent.glob(f"{glob.escape(path.name)}.*"):
        with own.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                own.unlink(missing_ok=True)  # of one that was killed while it waited
            except BlockingIOError:
                return True
    return False


def _acquire(path: Path, wait: bool, what: str) -> int:
    for _ in range(TRIES):
        if (handle := _taken(path, block=False)) is not None:
            return handle
        time.sleep(PAUSE)
    if not wait:
        raise EarwitnessError(
            f"{path}: this job is running already (process {_holder(path)}); "
            "wait for it, or end that process and run again"
        )
    if what:
        line = f"waiting for process {_holder(path)}, which {what}; what it makes will be used"
        print(line, file=sys.stderr, flush=True)
    with _waiting(path):
        handle = _taken(path, block=True)
    assert handle is not None  # it waits as long as it takes
    return handle


def _taken(path: Path, block: bool) -> int | None:
    """The open file, once it is locked; None where another process holds it, and not ``block``."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if block else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:
            pass
        os.close(handle)  # its holder removed it between open and lock: take the new one


def _holder(path: Path) -> str:
    """The process that holds a lock, as far as it is known."""
    try:
        return path.read_text(encoding="ascii")[:32] or "unknown"
    except (OSError, ValueError):
        return "unknown"  # it has ended meanwhile


@contextmanager
def _waiting(path: Path) -> Iterator[None]:
    """Lets the holder of ``path`` know that this process waits; see :func:`is_awaited`."""
    own = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(own, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        own.unlink(missing_ok=True)
        os.close(handle)

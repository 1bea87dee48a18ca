"""One run of a job at a time, by a lock that the kernel gives back when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import EarwitnessError


@contextmanager
def exclusive(path: Path, wait: bool = False) -> Iterator[None]:
    """Holds ``path``, a file that exists only while it is held, for the length of the block.

    Killing ``dvc`` with -9 leaves its stage alive, and the next ``dvc repro`` starts a second one
    beside it: the second is refused here. A file left by a killed holder is taken over.

    Raises:
        EarwitnessError: another process holds it, and ``wait`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquire(path, wait)
    try:
        os.truncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # still held: no one else can have taken this file
        os.close(handle)


def _acquire(path: Path, wait: bool) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode() or "unknown"
            os.close(handle)
            raise EarwitnessError(
                f"{path}: this job is running already (process {holder}); "
                "wait for it, or end that process and run again"
            ) from None
        except FileNotFoundError:
            pass
        os.close(handle)  # its holder removed it between open and lock: take the new one

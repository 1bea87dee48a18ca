"""How many jobs compute on this machine now: each holds a file in a folder that all of them know.

The kernel gives a lock back when its holder dies, so a job that was killed is not counted.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from pipeline.lock import exclusive

_held: dict[Path, int] = {}  # the files of this process, open until it ends


def join(folder: Path) -> int:
    """Counts the jobs that live; this process is one of them, from now until it ends.

    Args:
        folder: this user's own; it is made where it is not there.

    Returns:
        1 also where the folder cannot be used, as a job never fails for it.
    """
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid():  # in a temporary folder anybody may have made it
            with exclusive(folder / "counting", wait=True):
                return len(_others(folder)) + _take(folder)
    return 1


def _others(folder: Path) -> list[Path]:
    """The files that other processes hold; those that nobody holds are removed."""
    found = []
    for path in folder.glob("*.job"):
        if path == _own(folder):
            continue
        with path.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                path.unlink()
            except BlockingIOError:
                found.append(path)
    return found


def _take(folder: Path) -> int:
    if (path := _own(folder)) not in _held:
        # not inherited by what this process starts, which would hold it longer
        _held[path] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(_held[path], fcntl.LOCK_EX)
    return 1


def _own(folder: Path) -> Path:
    return folder / f"{os.getpid()}.job"

"""How a process ends: one line where its user or its machine is the reason, else a traceback."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import EarwitnessError

# what the system refuses, and what helps
_HINTS = {
    errno.ENOSPC: "free some space, then run again: it goes on from what is saved",
    errno.EDQUOT: "free some space, then run again: it goes on from what is saved",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f), then run again",
    errno.EROFS: "work in a folder that can be written",
    errno.EACCES: "give this user the right to it, or take another place",
    errno.EPERM: "give this user the right to it, or take another place",
    errno.EMFILE: "raise the limit on open files (ulimit -n), then run again",
    errno.ENFILE: "close other programs, then run again",
    errno.ENOMEM: "close other programs, or take a smaller batch, then run again",
    errno.EAGAIN: "raise the limit on processes (ulimit -u), or close other programs",
}
# how libraries say it that give no errno: h5py, safetensors (Rust), torch, C++, Python's threads
_NUMBER = re.compile(r"errno ?= ?(\d+)|os error (\d+)|Os \{ code: (\d+)")
_TEXTS = {
    "can't allocate memory": errno.ENOMEM,
    "out of memory": errno.ENOMEM,
    "not enough memory": errno.ENOMEM,
    "std::bad_alloc": errno.ENOMEM,
    "failed to map segment": errno.ENOMEM,
    "can't start new thread": errno.EAGAIN,
}
INTERRUPTED = 130  # as shells count it: 128 + SIGINT


@contextmanager
def reported(place: str = "") -> Iterator[None]:
    """Ends the process with one line where its user, or its machine, is the reason.

    An :class:`EarwitnessError`, and what the machine refuses (:func:`refusal`): exit code 1.
    Ctrl-C: 130. Everything else is a bug and keeps its traceback.

    Args:
        place: named where a full disk does not say which it is.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        line = ending(error, place)
        if line is None:
            raise
        print(line, file=sys.stderr)
        code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
        raise SystemExit(code) from None


def ending(error: BaseException, place: str = "") -> str | None:
    """What a process says of an error at its end; None: it is a bug."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: run it again to go on"
    line = str(error) if isinstance(error, EarwitnessError) else refusal(error, place)
    return None if line is None else f"error: {line}"


def show_any_text() -> None:
    """A letter that the terminal's locale lacks is shown as its code, and ends nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def refusal(error: BaseException, place: str = "") -> str | None:
    """One line, if the machine's disk, rights, memory or limits are the reason; else None.

    Args:
        error: its file is named if it has one, or the first note that was added to it.
        place: named if neither is there, and it is about a disk.
    """
    said: BaseException | None = error
    while said is not None:
        code = _code(said)
        if code in _HINTS:
            return f"{_where(said, code, place)}{os.strerror(code)}; {_HINTS[code]}"
        said = said.__cause__ or said.__context__
    return None


def _where(error: BaseException, code: int, place: str) -> str:
    named = getattr(error, "filename", None)
    if isinstance(named, str | bytes):
        return f"{os.fsdecode(named)}: "
    if notes := getattr(error, "__notes__", None):
        return f"{notes[0]}: "
    return f"{place}: " if place and code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""


def _code(error: BaseException) -> int:
    """The errno behind an exception, 0 if there is none."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno:
        return error.errno
    text = str(error)
    if found := _NUMBER.search(text):
        return int(found[found.lastindex or 1])
    return next((code for words, code in _TEXTS.items() if words in text), 0)

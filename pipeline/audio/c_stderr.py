"""What C libraries write to the terminal by themselves, kept away from it."""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Stderr:
    """glibc's variable ``stderr``, a pointer, set to a stream into nothing while anyone wants so.

    Where the C library is another one nothing is done.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._pointer: ctypes.c_void_p | None = None
        if platform.libc_ver()[0] == "glibc":
            library = ctypes.CDLL(None)
            library.fopen.restype = ctypes.c_void_p
            self._nowhere = library.fopen(b"/dev/null", b"w")
            if self._nowhere:
                self._pointer = ctypes.c_void_p.in_dll(library, "stderr")
                self._terminal = self._pointer.value

    def add(self, users: int) -> None:
        """More users, or fewer."""
        with self._lock:
            self._users += users
            if self._pointer is not None:
                self._pointer.value = self._nowhere if self._users else self._terminal


_stderr = _Stderr()


@contextmanager
def silent_c_code() -> Iterator[None]:
    """While this is open, in any thread, what C code writes to ``stderr`` is lost.

    libmpg123 describes each damaged frame there, and libsndfile has no switch for it. Only C's own
    stream is changed: Python's, and what other processes inherit, stay as they are.
    """
    _stderr.add(1)
    try:
        yield
    finally:
        _stderr.add(-1)

"""Memory that is free, given back to the system."""

from __future__ import annotations

import ctypes
import platform
from functools import cache


def give_back() -> None:
    """What glibc keeps of freed memory, in each of its arenas, goes back to the system.

    Threads that decode have arenas of their own, and what each keeps would grow over a long run.
    Where the C library is another one nothing is done.
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None

"""Processes that may not outlive the one that started them."""

from __future__ import annotations

import ctypes
import signal
import sys

_PDEATHSIG = 1  # of prctl(2): a signal when the parent ends


def end_with_parent() -> None:
    """From now on, this process gets SIGTERM when its parent ends; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)

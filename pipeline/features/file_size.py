"""How large a feature file grows before the rest of its frames goes into further files.

It is said once a process, by the stage, as its threads are. It changes no value.
"""

from __future__ import annotations

GIGABYTE = 10**9
_most = 100 * GIGABYTE


def limit_files(gigabytes: float) -> None:
    """Of every feature file that this process writes from now on."""
    global _most
    _most = max(1, int(gigabytes * GIGABYTE))


def most_bytes() -> int:
    """Of frames in one file."""
    return _most

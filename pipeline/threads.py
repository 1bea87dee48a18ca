"""How many threads a job computes with: set once, for all that computes in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from threadpoolctl import threadpool_limits

from pipeline.beside import join

# of scipy's own BLAS, which is loaded late, and of tokenizers, which read it at their first use
VARIABLES = ("OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_given: int | Literal["auto"] = "auto"
_meeting: tuple[Path, int | None] | None = None  # see `meet`


def meet(folder: Path, at_least: int | None) -> None:
    """The jobs of this machine find each other in ``folder``, and ``auto`` divides the cores.

    Args:
        at_least: that so many jobs run is known before they are there; None: this job is counted
            by the others, and divides nothing itself.
    """
    global _meeting
    _meeting = (folder, at_least)


def limit(threads: int | Literal["auto"]) -> None:
    """Before anything is computed: torch, BLAS, OpenMP, tokenizers and :func:`share` keep to it.

    ``auto`` leaves them what the process has; one of several jobs (:func:`meet`) takes an equal
    part of the cores, at least one. It keeps its number to its end, as sums depend on it to the
    last bit.
    """
    global _given
    part = _part()
    _given = threads if threads != "auto" or part is None else part
    if _given == "auto":
        return
    os.environ.update(dict.fromkeys(VARIABLES, str(_given)))
    threadpool_limits(_given)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(_given)


def one_thread() -> None:
    """``auto`` is one from now on, for work that is too small to be divided.

    Only where jobs divide the cores (:func:`meet`): who gave this one a number of threads, as by
    ``OMP_NUM_THREADS``, knows why.
    """
    if _meeting is not None and _meeting[1] is not None:
        limit(1)


def _part() -> int | None:
    """Of the cores, for this job; None: all, as it is alone or was given its threads."""
    if _meeting is None:
        return None
    folder, at_least = _meeting
    jobs = join(folder)
    if at_least is None or (jobs := max(jobs, at_least)) == 1:
        return None
    return max(1, cores() // jobs)


def share(most: int) -> int:
    """Threads for a pool beside the computing, such as for decoding; ``most`` if so many are given.

    Where nothing was said, as many as the process may use cores.
    """
    return min(most, cores() if _given == "auto" else _given)


def cores() -> int:
    """How many this process may use."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return found or 1

"""How many threads a job computes with: set once, for all that computes in it."""

from __future__ import annotations

import os
import sys
from typing import Literal

from threadpoolctl import threadpool_limits

# of scipy's own BLAS, which is loaded late, and of tokenizers, which read it at their first use
VARIABLES = ("OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_given: int | Literal["auto"] = "auto"


def limit(threads: int | Literal["auto"]) -> None:
    """Before anything is computed: torch, BLAS, OpenMP, tokenizers and :func:`share` keep to it.

    ``auto`` leaves them what the process has.
    """
    global _given
    _given = threads
    if threads == "auto":
        return
    os.environ.update(dict.fromkeys(VARIABLES, str(threads)))
    threadpool_limits(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def share(most: int) -> int:
    """Threads for a pool beside the computing, such as for decoding; ``most`` if so many are given.

    Where nothing was said, as many as the process may use cores.
    """
    if _given != "auto":
        return min(most, _given)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(most, cores or 1)

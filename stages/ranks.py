"""In how many processes a training stage works, by its plan or as ``torchrun`` started it.

Its code is of no digest (pipeline/planning/code.py): what it starts is in the plan.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.hardware import HardwareConfig
from pipeline.errors import EarwitnessError
from pipeline.launching import LOST, MEETING, run_ranks
from stages.run import leave_time

GIVEN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")  # by torchrun, or by run_ranks


@dataclass(frozen=True)
class Started:
    """This process, as one of several that were started together."""

    number: int
    local: int  # among those of this machine
    count: int
    here: int  # on this machine


def started() -> Started | None:
    """None: it is alone.

    Raises:
        EarwitnessError: the environment is not as ``torchrun`` makes it.
    """
    given = [os.environ.get(name) for name in GIVEN]
    if None in given or given[2] == "1":
        return None
    try:
        return Started(*(int(value or "") for value in given))
    except ValueError:
        shown = ", ".join(f"{n}={v}" for n, v in zip(GIVEN, given, strict=True))
        raise EarwitnessError(
            f"{shown} in the environment: not as torchrun sets them; unset them"
        ) from None


def is_first() -> bool:
    """Whether this process writes what a stage writes."""
    own = started()
    return own is None or own.number == 0


def in_ranks(hardware: HardwareConfig, job: Callable[[], None], *command: str) -> None:
    """Runs ``job`` here, or in all processes of this training.

    Args:
        command: the stage's name and its arguments, with which it is started again.

    Raises:
        EarwitnessError: see :func:`run_ranks` and :func:`pipeline.device.rank_device`.
    """
    own = started()
    if own is not None:
        _as_one_of(own, hardware, job)
    elif (count := _processes(hardware)) == 1:
        job()
    else:
        leave_time()  # the first of them keeps it
        stage, *arguments = command
        called = [sys.executable, "-m", f"stages.{stage}", *arguments]
        run_ranks(called, count, os.environ)


def _processes(hardware: HardwareConfig) -> int:
    if hardware.processes != "auto":
        return hardware.processes
    import torch

    from pipeline.device import resolve_device

    device = resolve_device(hardware.device)
    return torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1


def _as_one_of(own: Started, hardware: HardwareConfig, job: Callable[[], None]) -> None:
    from pipeline.collectives import LostRankError, Rank, joined
    from pipeline.device import rank_device

    if own.number:
        leave_time()
    rank = Rank(own.number, own.count, own.here, rank_device(hardware.device, own.local, own.here))
    meeting = os.environ.get(MEETING)
    try:
        with joined(rank, meeting or "env://"):
            if own.number == 0:
                job()
                return
            with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
                job()
    except LostRankError as lost:
        if not meeting:
            raise
        if own.number:  # the first one's errors are shown at once: the one that ended has the word
            print(f"error: {lost}", file=sys.stderr)
        raise SystemExit(LOST) from None

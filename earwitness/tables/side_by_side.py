"""``dvc repro`` in a workplace: one, or several at once, each of a job of its own.

DVC lets go of its lock while a stage's command runs, so several of them work in one folder; what
they write to ``dvc.lock`` they write one after the other (docs/dvc.md).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

from earwitness.tables.workplace import Workplace
from pipeline.parents import end_with_parent

PATIENCE = 10  # seconds that an interrupted DVC has to end


class Work(NamedTuple):
    """One ``dvc repro``."""

    name: str  # of the job; "": of many
    arguments: tuple[str, ...]


class Said(NamedTuple):
    """A line of a job's output, or how it ended."""

    name: str
    line: str  # without its end
    code: int | None = None  # that it ended with; None: it goes on


def repro(workplace: Workplace, works: Iterable[Work], at_once: int = 1) -> Iterator[Said]:
    """What each says as it says it. After one that failed no more are begun; those that run end.

    Left before its end, as by Ctrl-C, all that runs is ended.
    """
    waiting, running = deque(works), dict[str, subprocess.Popen[str]]()
    said = SimpleQueue[Said]()
    environment = dvc_environment(workplace.root)
    if at_once > 1:  # so that the first already leaves the others their cores
        environment["EARWITNESS_JOBS"] = str(min(at_once, len(waiting)))
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                work = waiting.popleft()
                running[work.name] = _start(workplace, work.arguments, environment)
                Thread(target=_read, args=(work.name, running[work.name], said)).start()
            yield (last := said.get())
            if last.code is not None:
                running.pop(last.name)
            if last.code:
                waiting.clear()
    finally:
        _end(running.values())


def _start(
    workplace: Workplace, arguments: Iterable[str], environment: dict[str, str]
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *arguments],
        cwd=workplace.tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        preexec_fn=end_with_parent,  # else it would go on beside the next
    )


def _read(name: str, process: subprocess.Popen[str], said: SimpleQueue[Said]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        said.put(Said(name, line.rstrip("\n")))
    said.put(Said(name, "", process.wait()))


def _end(running: Iterable[subprocess.Popen[str]]) -> None:
    """After Ctrl-C, which DVC had too: it ends when its stage has."""
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        process.terminate()
    for process in running:
        process.wait()


def dvc_environment(root: Path) -> dict[str, str]:
    """Of DVC and its stages: this Python, the workplace's code, the original's untracked files."""
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    given |= {"DVC_ROOT": str(root), "TQDM_DISABLE": "1", "PYTHONUNBUFFERED": "1"}
    given["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), given.get("PATH", "")])
    return given

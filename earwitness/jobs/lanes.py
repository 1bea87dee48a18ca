"""Several ``dvc repro --single-item`` at once in one folder, and what they say.

DVC lets go of its lock while a stage's command runs, so several of them work in one folder; what
they write to ``dvc.lock`` they write one after the other (docs/dvc.md).
"""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

from pipeline.parents import end_with_parent

RUNS = re.compile(r"Running stage '(.+)':")
HAS = re.compile(r"Stage '(.+)' (?:didn't change, skipping|is cached - skipping run)")
PATIENCE = 10  # seconds that an interrupted DVC has to end
WIDTH = 46  # columns of the terminal that a job is shown: a bar stands beside the job's name
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours, and moves of the cursor
LINES = re.compile(r"\r?\n|\r")
BAR = "%|"  # what tqdm leaves when it ends is no line of the job's


class Said(NamedTuple):
    """A line of a job's output, or how it ended."""

    name: str
    line: str  # without its end
    code: int | None = None  # that it ended with; None: it goes on
    passing: bool = False  # of a progress bar, which overwrites it


class Lanes:
    """As many processes at once as there are lanes. A context: nothing runs on when it is left.

    Args:
        folder: where DVC runs.
        environment: of all.
        cards: of GPUs, as ``CUDA_VISIBLE_DEVICES`` names them, which the lanes take in turn; none:
            what the environment says.
        bars: whether the jobs show their progress, as on a terminal.
    """

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        count: int,
        cards: Sequence[str] = (),
        *,
        bars: bool = False,
    ) -> None:
        self._folder, self._environment, self._bars = folder, environment, bars
        self._free = [{"CUDA_VISIBLE_DEVICES": cards[lane % len(cards)]} if cards else {}
                      for lane in reversed(range(count))]  # fmt: skip
        self._running: dict[str, tuple[subprocess.Popen[bytes], dict[str, str]]] = {}
        self._said = SimpleQueue[Said]()

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    @property
    def running(self) -> frozenset[str]:
        """The names of what runs."""
        return frozenset(self._running)

    @property
    def full(self) -> bool:
        """Whether nothing more can be begun."""
        return not self._free

    def begin(self, name: str, arguments: Sequence[str]) -> None:
        """``dvc repro`` of ``arguments``, in a free lane."""
        own = self._free.pop()
        process, output = self._start(arguments, own)
        self._running[name] = process, own
        Thread(target=self._read, args=(name, process, output)).start()

    def next(self) -> Said:
        """Waits for what any of them says next; the last of each is its code."""
        said = self._said.get()
        if said.code is not None:
            self._free.append(self._running.pop(said.name)[1])
        return said

    def end(self) -> None:
        """After Ctrl-C, which DVC had too: it ends when its stage has."""
        processes = [process for process, _ in self._running.values()]
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.terminate()
        for process in processes:
            process.wait()

    def _start(
        self, arguments: Sequence[str], own: dict[str, str]
    ) -> tuple[subprocess.Popen[bytes], int]:
        """And the end of what it says that is read."""
        reading, writing = _terminal() if self._bars else os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *arguments],
                cwd=self._folder,
                env=self._environment | own,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                preexec_fn=end_with_parent,  # else it would go on beside the next
            )
        finally:
            os.close(writing)
        return process, reading

    def _read(self, name: str, process: subprocess.Popen[bytes], output: int) -> None:
        for line, passing in _lines(output):
            self._said.put(Said(name, line, passing=passing))
        self._said.put(Said(name, "", process.wait()))


def dvc_environment(root: Path) -> dict[str, str]:
    """Of DVC and its stages: this Python, the workplace's code, the original's untracked files."""
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    given |= {"DVC_ROOT": str(root), "PYTHONUNBUFFERED": "1"}
    own, path = str(Path(sys.executable).parent), given.get("PATH", "")
    if own not in path.split(os.pathsep):  # where it is, the path's order is what DVC itself has
        given["PATH"] = os.pathsep.join([own, path])
    return given


def cards() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    try:
        said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return re.findall(r"^GPU (\d+):", said.stdout, re.MULTILINE)


def _terminal() -> tuple[int, int]:
    """Both ends of a terminal, on which progress bars show."""
    reading, writing = os.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    return reading, writing


def _lines(output: int) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is of a bar: the next overwrites it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    for chunk in _chunks(output):
        rest += decoder.decode(chunk)
        start = 0
        for end in LINES.finditer(rest):
            if end[0] == "\r" and end.end() == len(rest):
                break  # a newline may follow
            line = CONTROL.sub("", rest[start : end.start()])
            yield line, end[0] == "\r" or BAR in line
            start = end.end()
        rest = rest[start:]
    if rest := CONTROL.sub("", rest).rstrip("\r"):
        yield rest, False


def _chunks(output: int) -> Iterable[bytes]:
    with os.fdopen(output, "rb", buffering=0) as stream:
        while True:
            try:
                chunk = stream.read(1 << 16)
            except OSError:  # how a terminal says that nobody writes any more
                return
            if not chunk:
                return
            yield chunk

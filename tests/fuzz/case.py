"""One case: a good file is harmed, its loader reads it, and what came of that is judged."""

from __future__ import annotations

import os
import resource
import shutil
import struct
from collections.abc import Callable, Mapping
from ctypes import CDLL, get_errno
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from pipeline.errors import EarwitnessError
from tests.fuzz.harm import Harm, in_its_place

MEMORY = 4 << 30  # bytes that a loader may take, what the libraries take included
ODDS = 0.04  # of something else in a file's place
# what libraries print from compiled code and cannot be asked not to
NOTES = ("Ignored unknown kwarg option",)
LINE = 2000  # characters of an error at most

KINDS = ("accepted", "refused", "traceback", "hang", "memory", "outside", "untidy")
BAD = KINDS[2:]


class Outcome(NamedTuple):
    """What came of a case; ``kind`` is one of KINDS."""

    kind: str
    detail: str = ""


@dataclass(frozen=True)
class Loader:
    """A way by which files enter.

    Args:
        make: writes good inputs, a folder each, into a folder.
        load: reads such a folder; good ones pass. An AssertionError says that it read them wrongly.
        harms: by pattern of file names, what may happen to one of them.
        leaves: names that a refused input may leave behind.
    """

    name: str
    make: Callable[[Path], None]
    load: Callable[[Path], object]
    harms: Mapping[str, tuple[Harm, ...]]
    leaves: frozenset[str] = frozenset()


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Watch:
    """Sees, with the kernel's help, what happens to the files of a folder; not below it."""

    WRITE = 0x2 | 0x40 | 0x80 | 0x100 | 0x200  # modify, moves, create, delete
    OPEN = 0x20
    HEAD = struct.Struct("iIII")

    def __init__(self, folder: Path, events: int) -> None:
        libc = CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        added = libc.inotify_add_watch(self._handle, os.fsencode(folder), events)
        if self._handle < 0 or added < 0:
            raise OSError(get_errno(), "inotify")

    def names(self) -> list[str]:
        """The files since the last call."""
        try:
            data = os.read(self._handle, 1 << 20)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(data):
            length = self.HEAD.unpack_from(data, at)[3]
            at += self.HEAD.size + length
            found.append(data[at - length : at].rstrip(b"\0").decode("utf-8", "replace"))
        return sorted({name for name in found if name})


class Output:
    """What the process says on stdout and stderr, C libraries included."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        for stream in (1, 2):
            os.dup2(self._file.fileno(), stream)

    def taken(self) -> str:
        self._file.seek(0)
        text = self._file.read().decode("utf-8", "replace")
        self._file.seek(0)
        self._file.truncate()
        return text


def prepare_case(loader: Loader, good: Path, home: Path, outside: Path, draw: Random) -> str:
    """Puts a harmed copy of a good input at ``home``; says which file was harmed."""
    shutil.rmtree(home, ignore_errors=True)
    variants = sorted(path.name for path in good.iterdir())
    shutil.copytree(good / draw.choice(variants), home, symlinks=True)
    choices = [
        (path.relative_to(home), harms)
        for pattern, harms in loader.harms.items()
        for path in sorted(home.glob(pattern))
    ]
    name, harms = draw.choice(choices)
    if draw.random() < ODDS:
        in_its_place(draw, home / name, outside)
        return str(name)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        harm = draw.choice(harms)
        try:
            harm(draw, home / name, outside)
        except Exception:  # an earlier harm left nothing that this one can read
            break
    return str(name)


def run_case(loader: Loader, home: Path, watches: tuple[Watch, ...], output: Output) -> Outcome:
    """Loads what is at ``home``."""
    before = names(home)
    for watch in watches:
        watch.names()
    output.taken()
    outcome = _loaded(loader, home)
    said = " ".join(output.taken().split())
    seen = [name for watch in watches for name in watch.names()]
    if seen:
        return Outcome("outside", f"{', '.join(seen)} after {outcome.kind} {outcome.detail}")
    if outcome.kind == "refused":
        if left := (names(home) ^ before) - loader.leaves:
            return Outcome("untidy", f"left or removed {sorted(left)}: {outcome.detail}")
        if said and not said.startswith(NOTES):
            return Outcome("untidy", f"said {said[:200]!r} beside {outcome.detail!r}")
    return outcome


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _loaded(loader: Loader, home: Path) -> Outcome:
    try:
        loader.load(home)
    except EarwitnessError as error:
        text = str(error)
        if len(text) > LINE or len(text.splitlines()) != 1 or _controls(text):
            return Outcome("untidy", f"not one line: {text[:300]!r}")
        short_of_memory = "allocate" in text or "not enough memory" in text
        return Outcome("memory" if short_of_memory else "refused", text)
    except MemoryError as error:
        return Outcome("memory", _where(error))
    except Exception as error:
        kind = "memory" if "can't allocate memory" in str(error) else "traceback"
        return Outcome(kind, _where(error))
    return Outcome("accepted")


def _controls(text: str) -> bool:
    """Whether a terminal would do more than show it."""
    return any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text)


def _where(error: BaseException) -> str:
    """The exception, and the last line of ours that it passed."""
    place, step = "", error.__traceback__
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if "/pipeline/" in file or "/earwitness/" in file:
            place = f"{Path(file).parent.name}/{Path(file).name}:{step.tb_lineno}"
        step = step.tb_next
    reason = " ".join(str(error).split())[:150]
    return f"{type(error).__name__} at {place}: {reason}"

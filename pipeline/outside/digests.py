"""Files that others may change at any time, and SHA-256 of their content.

A file is read again only where the file system says that it changed: 50,000 files that did not are
looked through in a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from pipeline.files import sha256, write_atomic
from pipeline.threads import share

# a file that was written so shortly before it was looked at is read again the next time: the clock
# of its file system may be too coarse to show a second change (git calls it "racily clean")
RECENT = 2_000_000_000  # ns
UNREADABLE = "cannot be read"
OF_DESKTOPS = frozenset((".DS_Store", "Thumbs.db", "desktop.ini"))


class State(NamedTuple):
    """What the file system says of a file; ``changed``, of its inode, cannot be set back."""

    size: int
    modified: int  # ns
    changed: int  # ns
    inode: int


def list_files(path: Path) -> dict[str, State]:
    """The files below a folder, in order, by their path below it; a file itself is ``.``.

    Links are followed. Hidden folders, what desktops write, and links that lead nowhere or back are
    left out; nothing is there where ``path`` is not.
    """
    try:
        top = path.stat()
    except (OSError, ValueError):
        return {}
    if not stat.S_ISDIR(top.st_mode):
        return {".": _state(top)} if stat.S_ISREG(top.st_mode) else {}
    found: dict[str, State] = {}
    waiting = [("", frozenset(((top.st_dev, top.st_ino),)))]
    while waiting:
        below, above = waiting.pop()
        try:
            entries = os.scandir(path / below)
        except OSError:  # its reader says so
            continue
        with entries:
            for entry in entries:
                try:
                    status = entry.stat()
                except OSError:
                    continue
                if stat.S_ISREG(status.st_mode) and entry.name not in OF_DESKTOPS:
                    found[f"{below}{entry.name}"] = _state(status)
                elif stat.S_ISDIR(status.st_mode) and not entry.name.startswith("."):
                    folder = (status.st_dev, status.st_ino)
                    if folder not in above:
                        waiting.append((f"{below}{entry.name}/", above | {folder}))
    return dict(sorted(found.items()))


def _state(status: os.stat_result) -> State:
    return State(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class Digests:
    """SHA-256 of files, which are remembered from one run to the next.

    They are at the end of a ``with`` block, also of one that was interrupted: what was read by then
    is not read again.

    Args:
        memory: the file that they are remembered in; a broken one is as good as none.
        now: ns, the time of this run.
    """

    def __init__(self, memory: Path | None = None, now: int | None = None) -> None:
        self._memory = memory
        self._now = time.time_ns() if now is None else now
        self._known = {} if memory is None else _read(memory)
        self._used: dict[str, tuple[State, str]] = {}

    def __enter__(self) -> Digests:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._save(self._used if kind is None else {**self._known, **self._used})

    def of_files(self, root: Path, files: Mapping[str, State]) -> dict[str, str]:
        """SHA-256 of each of :func:`list_files`; :data:`UNREADABLE` for a file that is so."""
        top = os.path.realpath(root)
        places = {name: top if name == "." else f"{top}/{name}" for name in files}
        known = {name: self._digest(places[name], state) for name, state in files.items()}
        changed = [name for name, digest in known.items() if digest is None]
        with ThreadPoolExecutor(share(8)) as threads:
            read = threads.map(_sha256, (places[name] for name in changed))
            # most looks take no time, and show nothing
            bar = tqdm(read, root.name, len(changed), disable=None, unit="file", delay=2)
            for name, digest in zip(changed, bar, strict=True):
                known[name] = digest
                if digest != UNREADABLE:
                    self._used[places[name]] = (files[name], digest)
        return {name: digest for name, digest in known.items() if digest is not None}

    def of(self, path: Path) -> str | None:
        """Of a file, or of a folder's files and their names; None where there are none."""
        files = list_files(path)
        digests = self.of_files(path, files)
        return digest_of(digests) if digests else None

    def _save(self, asked: Mapping[str, tuple[State, str]]) -> None:
        """Remembers those that were asked for; those that are gone are forgotten."""
        old = {
            place: (state, digest)
            for place, (state, digest) in asked.items()
            if max(state.modified, state.changed) < self._now - RECENT
        }
        if self._memory is not None and old != self._known:
            rows = {place: (*state, digest) for place, (state, digest) in old.items()}
            write_atomic(self._memory, json.dumps(rows))

    def _digest(self, place: str, state: State) -> str | None:
        entry = self._used.get(place) or self._known.get(place)
        if entry is None or entry[0] != state:
            return None
        self._used[place] = entry
        return entry[1]


def digest_of(digests: Mapping[str, str]) -> str:
    """One digest of several files' names and content."""
    pairs = [[name, digest] for name, digest in digests.items()]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def _sha256(place: str) -> str:
    try:
        return sha256(Path(place))
    except OSError:
        return UNREADABLE


def _read(memory: Path) -> dict[str, tuple[State, str]]:
    """What :meth:`Digests.save` wrote."""
    try:
        rows = json.loads(memory.read_text(encoding="utf-8"))
        return {
            place: (State(size, modified, changed, inode), digest)
            for place, (size, modified, changed, inode, digest) in rows.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}

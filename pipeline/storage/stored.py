"""A recording that is no file of its own on this machine: an object, or a tar's member."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path

from pipeline.errors import EarwitnessError
from pipeline.files import leads_inside, shown
from pipeline.storage import remote
from pipeline.storage.tar import HEADER, check_header
from pipeline.storage.urls import fixed_folder, is_pattern, is_url

IN_MEMORY = 256 << 20  # bytes of a file that is held in memory; a longer one is put on the disk
MOST = 8 << 30  # bytes of a file
CHUNK = 32 << 20  # bytes that one request brings of a file that is not held in memory
# in a manifest: the shard, where in it, and the member's name
_ADDRESS = re.compile(
    r"(?P<shard>[^!]+)!(?P<offset>[0-9]{1,18})\+(?P<size>[0-9]{1,18})/(?P<name>.+)", re.DOTALL
)


@dataclass(frozen=True)
class Stored:
    """Where a recording's bytes are; it can be sent to another process, which opens it there.

    ``offset`` and ``size`` say where a tar's member lies.
    """

    url: str  # of the object or the shard; of a shard on this machine its path
    member: str = ""
    offset: int = 0
    size: int | None = None  # bytes, where they are known
    content: bytes | None = field(default=None, repr=False, compare=False)  # that were fetched

    def __str__(self) -> str:
        return f"{self.url}!{self.member}" if self.member else self.url

    @property
    def is_remote(self) -> bool:
        return is_url(self.url)

    def fetched(self) -> Stored:
        """With its bytes, if they are few enough to be held in memory.

        Raises:
            EarwitnessError: see :meth:`open`.
        """
        if self.content is not None or (self.size or 0) > IN_MEMORY:
            return self
        content = self._read(IN_MEMORY)
        return self if len(content) > IN_MEMORY else replace(self, content=content)

    def open(self) -> FileIO:
        """Its bytes as a file without a name, which can be read anywhere in it.

        Raises:
            EarwitnessError: it is not there, may not be read, is larger than :data:`MOST`, or its
                shard has changed; or the connection fails, see remote.py.
        """
        whole = self.fetched()
        if whole.content is not None:
            file = _nameless([whole.content])
            os.ftruncate(file.fileno(), max(self.size or 0, len(whole.content)))
            return file
        size = remote.info(self.url).size if self.size is None else self.size
        if size > MOST:
            raise EarwitnessError(f"{shown(str(self))}: more than {MOST >> 30} GB; cut it")
        return _nameless(self._chunks(size), on_disk=True)

    def beginning(self, size: int) -> Stored:
        """With its first bytes alone: behind them it reads as zeros, and good for no more than
        what a header says."""
        return replace(self, content=self._piece(0, min(size, self.size or 0)))

    def _read(self, most: int) -> bytes:
        """All of it; one byte more than ``most`` where it is longer."""
        if self.size is None:
            return remote.read(self.url, 0, most + 1, exact=False)
        if not self.member:
            return self._piece(0, self.size)
        found = self._piece(-HEADER, self.size)
        if not check_header(found[:HEADER], self.size):
            raise EarwitnessError(
                f"{shown(str(self))}: its tar has changed since the dataset was prepared; "
                "run `dvc repro prepare`"
            )
        return found[HEADER:]

    def _piece(self, start: int, stop: int) -> bytes:
        begin, end = self.offset + start, self.offset + stop
        if begin == end:
            return b""
        if self.is_remote:
            return remote.read(self.url, begin, end)
        try:
            with Path(self.url).open("rb") as shard:
                found = os.pread(shard.fileno(), end - begin, begin)
        except FileNotFoundError:
            raise EarwitnessError(f"{shown(self.url)}: not there; put it back") from None
        except OSError as error:
            raise EarwitnessError(
                f"{shown(self.url)}: cannot be read ({error.strerror}); replace it"
            ) from None
        if len(found) < end - begin:
            raise EarwitnessError(f"{shown(str(self))}: its tar is cut short; replace it")
        return found

    def _chunks(self, size: int) -> Iterator[bytes]:
        for start in range(0, size, CHUNK):
            yield self._piece(start, min(size, start + CHUNK))


def _nameless(chunks: Iterator[bytes] | list[bytes], on_disk: bool = False) -> FileIO:
    """A file that is gone with its last reader; in memory where the system can."""
    if on_disk or not hasattr(os, "memfd_create"):
        number, name = tempfile.mkstemp()
        Path(name).unlink()
    else:
        number = os.memfd_create("recording")
    file = os.fdopen(number, "r+b", buffering=0)
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def address(shard: str, offset: int, size: int, name: str) -> str:
    """A tar's member as the path of a clip; ``name`` is what the dataset's tables call it."""
    return f"{shard}!{offset}+{size}/{name}"


def plain(path: str) -> str:
    """The path of a clip as its dataset's tables know it: of a tar's member, its name there."""
    found = _ADDRESS.fullmatch(path)
    return path if found is None else found["name"]


def stored_at(root: str, path: str, source: str) -> Path | Stored:
    """A clip's recording.

    Args:
        root: an address of a folder, or a pattern of shards, as a path or an address.
        path: of the clip, in a manifest.
        source: what named the path, for the error.

    Raises:
        EarwitnessError: the path leaves the root, or is none of a shard's member.
    """
    if not leads_inside(path):
        raise EarwitnessError(f"{source}: path {path!r} leaves {root}; correct the row")
    if not is_pattern(root):
        return Stored(f"{root.rstrip('/')}/{path}")
    found = _ADDRESS.fullmatch(path)
    folder = fixed_folder(root)
    if found is None:  # a file beside the shards
        return Stored(f"{folder}/{path}") if is_url(root) else Path(folder) / path
    shard = f"{folder}/{found['shard']}" if folder else found["shard"]
    return Stored(shard, found["name"], int(found["offset"]), int(found["size"]))

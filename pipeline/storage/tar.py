"""The members of a tar, without its content: where each begins and how long it is.

A remote tar is looked through by ranges, a block around each header: of clips of a megabyte a few
per cent are read. What may be written elsewhere than it lies (links, devices, sparse files, names
that lead out of the tar) is refused, and nothing is ever unpacked.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from pipeline.errors import EarwitnessError, reason
from pipeline.files import leads_inside, shown
from pipeline.raw_file import RawFile
from pipeline.storage import remote
from pipeline.storage.urls import is_url

HEADER = 512  # bytes before a member's own
BLOCK = 1 << 16  # bytes that one request brings
LONGEST_READ = 4 << 20  # bytes that a header, or a text, may have
# what layouts read as text; it comes with the headers, so it is kept
TEXTS = frozenset((".json", ".txt", ".csv", ".tsv", ".yaml", ".yml"))
LONGEST_TEXT = 1 << 20  # bytes of a text that is kept


class TarMember(NamedTuple):
    """A regular file in a tar."""

    name: str
    offset: int  # of its first byte, in the tar
    size: int
    text: bytes | None  # the content of a short text


def members(shard: str, size: int) -> list[TarMember]:
    """The files in a tar, a path or an address, in its order.

    Raises:
        EarwitnessError: it is no tar, is packed or cut, has a member that is refused, or two of
            one name; or see remote.py.
    """
    found: dict[str, TarMember] = {}
    for member in _members(shard, size):
        if member.name in found:
            raise EarwitnessError(f"{shown(shard)}: member {member.name!r} occurs twice; refused")
        found[member.name] = member
    if not found:
        raise EarwitnessError(f"{shown(shard)}: a tar with nothing in it; replace it")
    return list(found.values())


def _members(shard: str, size: int) -> Iterator[TarMember]:
    try:
        with _opened(shard, size) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for info in tar:
                if not info.isdir():
                    yield _member(shard, tar, info, size)
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        raise EarwitnessError(
            f"{shown(shard)}: not a tar, or a damaged one ({reason(error)}); replace it"
        ) from None


def _member(shard: str, tar: tarfile.TarFile, info: tarfile.TarInfo, size: int) -> TarMember:
    where = f"{shown(shard)}: member {info.name[:200]!r}"
    if not info.isreg() or info.issparse():
        raise EarwitnessError(f"{where} is a link, a device or a sparse file; refused")
    if not leads_inside(info.name) or not PurePosixPath(info.name).parts:
        raise EarwitnessError(f"{where} leads out of the tar; refused")
    if info.size < 0 or info.offset_data + info.size > size:
        raise EarwitnessError(f"{where} ends behind the end of the tar, which is cut; replace it")
    text = None
    path = PurePosixPath(info.name)
    if path.suffix.lower() in TEXTS and info.size <= LONGEST_TEXT:
        content = tar.extractfile(info)
        text = content.read() if content is not None else None
    return TarMember(str(path), info.offset_data, info.size, text)


@contextmanager
def _opened(shard: str, size: int) -> Iterator[BinaryIO]:
    if is_url(shard):
        yield _Blocks(shard, size)  # type: ignore[misc]
        return
    with Path(shard).open("rb") as stream:
        yield stream


class _Blocks(RawFile):
    """A remote file, read a block at a time; what is jumped over is not read."""

    def __init__(self, url: str, size: int) -> None:
        super().__init__(size)
        self._url = url
        self._begin, self._block = 0, b""

    def read(self, size: int = -1) -> bytes:  # type: ignore[override]
        stop = min(self._size, self._at + size) if size >= 0 else self._size
        if stop <= self._at:
            return b""
        if stop - self._at > LONGEST_READ:
            raise ValueError(f"a header of {stop - self._at} bytes")
        if not self._begin <= self._at <= stop <= self._begin + len(self._block):
            end = min(self._size, max(stop, self._at + BLOCK))
            self._block = remote.read(self._url, self._at, end)
            self._begin = self._at
        begin, self._at = self._at - self._begin, stop
        return self._block[begin : stop - self._begin]


def check_header(block: bytes, size: int) -> bool:
    """Whether the 512 bytes before a member still say that a file of ``size`` bytes follows."""
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return info.size == size and info.isreg()

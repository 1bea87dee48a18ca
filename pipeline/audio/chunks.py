"""Where a WAV's samples end by its header, and those of its relatives RF64, W64, AIFF, AU and CAF.

This is needed because libsndfile reads a truncated file of them without an error, and because pipes
and recorders write a header before they know how much sound will follow.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from pipeline.audio.pieces import Piece

# so many bytes too many are a mistake in counting a header (44 to 80 bytes), and no sound is lost
SLIP = 128
# writers that cannot know the size write 0, or something near to one of these (sox: 2³¹ − 4096; for
# AIFF the third)
MARKS = (1 << 31, 1 << 32, 0x7F000000)
NEAR = 4096
W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


@dataclass(frozen=True)
class SampleChunk:
    """A file's samples by its header: ``size`` bytes, counted from byte ``start``."""

    kind: str  # of file
    start: int
    size: int
    field: int  # the byte where the size stands
    form: str  # in which it stands there, as struct names it

    @property
    def stop(self) -> int:
        return self.start + self.size

    @property
    def is_unknown(self) -> bool:
        """Whether the size is a mark that the writer did not know it."""
        if self.form[-1] in "qQ":
            return self.size <= 0 or self.size >= 1 << 62
        return self.size == 0 or min(abs(self.size - mark) for mark in MARKS) <= NEAR

    def is_truncated(self, size: int) -> bool:
        """Whether a file of ``size`` bytes holds less than its header says."""
        return not self.is_unknown and self.stop - size > SLIP


def sample_chunk(file: int) -> SampleChunk | None:
    """Of an open file; None where it is of another kind, or its header ends too early."""
    head = os.pread(file, 40, 0)
    try:
        match head[:4], head[8:12]:
            case b"RIFF", b"WAVE":
                return _walk(file, "WAV", 12, "<4sI", b"data")
            case b"RIFX", b"WAVE":
                return _walk(file, "WAV", 12, ">4sI", b"data")
            case b"RF64", b"WAVE":
                return _rf64(file)
            case b"FORM", (b"AIFF" | b"AIFC"):
                return _walk(file, "AIFF", 12, ">4sI", b"SSND")
            case b"caff", _:
                return _walk(file, "CAF", 8, ">4sq", b"data")
            case b".snd", _:
                start, size = struct.unpack(">II", head[4:12])
                return SampleChunk("AU", start, size, 8, ">I")
        return _w64(file) if head[:16] == W64_RIFF else None
    except struct.error:
        return None


def mended(file: int, chunk: SampleChunk, size: int) -> list[Piece] | None:
    """An open file of ``size`` bytes, with the size that its samples have.

    None where its header is right, or wrong in a way that libsndfile knows.

    Raises:
        struct.error: there are too many samples for a header of this kind.
    """
    there = size - chunk.start
    if not chunk.is_unknown or there <= 0 or (chunk.size == 0 and _only_chunks(file, chunk, size)):
        return None
    right = struct.pack(chunk.form, there)
    return [(0, chunk.field), right, (chunk.field + len(right), size)]


def _walk(file: int, kind: str, at: int, form: str, wanted: bytes) -> SampleChunk | None:
    """The chunk ``wanted`` from ``at`` on; ``form`` is a chunk's name and size."""
    length = struct.calcsize(form)
    while True:
        name, size = struct.unpack(form, os.pread(file, length, at))
        if name == wanted:
            return SampleChunk(kind, at + length, size, at + 4, form[0] + form[-1])
        if size < 0:
            return None
        at += length + size + (size % 2 if form[-1] == "I" else 0)


def _rf64(file: int) -> SampleChunk | None:
    """As RIFF, but the size stands in the chunk ds64, the first."""
    chunk = _walk(file, "WAV", 12, "<4sI", b"data")
    if chunk is None or chunk.size != 0xFFFFFFFF or os.pread(file, 4, 12) != b"ds64":
        return chunk
    (size,) = struct.unpack("<Q", os.pread(file, 8, 28))
    return SampleChunk("WAV", chunk.start, size, 28, "<Q")


def _w64(file: int) -> SampleChunk | None:
    """Sony Wave64: names of 16 bytes, sizes that count name and size too, chunks at eights."""
    at = 40
    while True:
        name, size = struct.unpack("<16sQ", os.pread(file, 24, at))
        if name == W64_DATA:
            return SampleChunk("W64", at, size, at + 16, "<Q")
        if size < 24:
            return None
        at += size + -size % 8


def _only_chunks(file: int, chunk: SampleChunk, size: int) -> bool:
    """Whether other chunks, and no samples, follow up to the end of the file."""
    at = chunk.start
    while at + 8 <= size:
        name, length = struct.unpack(f"{chunk.form[0]}4sI", os.pread(file, 8, at))
        if not name.isascii() or not name.decode().isprintable():
            return False
        at += 8 + length + length % 2
    return at in (size, size + 1)

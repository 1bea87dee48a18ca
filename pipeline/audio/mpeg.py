"""The frames of MPEG audio (MP3), counted from their headers (ISO 11172-3 and 13818-3, 2.4.2.3).

libsndfile reads as many samples as a file's first frame says, Xing's or Info's, and where there is
no such frame, as many as it estimates by the first frame's bit rate: of sound of a variable rate,
or of two files in one, it may leave out most. So the frames are counted here, and where the count
differs it is given a stream of the frames alone, behind a Xing frame of our own.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pipeline.audio.pieces import Piece

BLOCK = 1 << 20  # bytes that are looked at together
LONGEST_FRAME = 4096  # bytes; no bit rate gives longer ones
BEHIND = 4 * LONGEST_FRAME  # bytes that are kept, to go back to from the end of a chain
FIRST_WITHIN = 1 << 20  # bytes that may stand before the first frame, beside tags
# two headers belong to one sound where these bits agree: sync, version, layer and sample rate
FORMAT_BITS = 0xFFFE0C00
CHAIN = 3  # frames in a row that are no coincidence
# of a frame, with a layer, a bit rate and a sample rate that there are, or of a tag
_RATES = b"".join(rb"\x%x0-\x%xb" % (rate, rate) for rate in range(1, 15))
_BEGINNING = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][" + _RATES + rb"]|ID3")
INFO_TAGS = (b"Xing", b"Info", b"VBRI")
_KBITS = {  # (version is MPEG-1, layer) → kbit/s by the header's index, from 1
    (True, 1): range(32, 449, 32),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = (44100, 48000, 32000)
_PARTS = {3: 1, 2: 2, 0: 4}  # version bits → what its sample rates are divided by
_ZEROS = bytes(9)  # the side information of an info frame begins so


@dataclass
class Stretch:
    """Frames of one format that stand without a gap, after the info frame if they have one."""

    header: int  # of its first frame, the info frame too
    start: int
    stop: int
    frames: int = 0  # without the info frame
    declared: int | None = None  # frames by its Xing or Info frame

    @property
    def format(self) -> tuple[int, bool]:
        return self.header & FORMAT_BITS, _is_mono(self.header)

    @property
    def sample_rate(self) -> int:
        return _HERTZ[self.header >> 10 & 3] // _PARTS[self.header >> 19 & 3]

    @property
    def samples_a_frame(self) -> int:
        match 4 - (self.header >> 17 & 3):
            case 1:
                return 384
            case 3 if self.header >> 19 & 3 != 3:
                return 576
            case _:
                return 1152


def stretches(file: int, start: int, stop: int) -> list[Stretch]:
    """All frames between two bytes of an open file, in their order; none where it is not MPEG.

    Tags, and anything else that is no frame, are passed over; a last frame that is cut is left out.
    """
    window = _Window(file, stop)
    found: list[Stretch] = []
    at = _next_chain(window, start, start + FIRST_WITHIN)
    while at is not None:
        one = _follow(window, at)
        found.append(one)
        at = _next_chain(window, one.stop, stop)
    return [one for one in found if one.frames]


def streams(found: list[Stretch]) -> Iterator[list[Piece]]:
    """``stretches`` as streams that libsndfile reads completely, one for each change of format."""
    while found:
        bounds = [at for at, (a, b) in enumerate(pairwise(found), 1) if a.format != b.format]
        count = bounds[0] if bounds else len(found)
        own, found = found[:count], found[count:]
        frames, size = sum(one.frames for one in own), sum(one.stop - one.start for one in own)
        yield [_xing(own[0].header, frames, size), *((one.start, one.stop) for one in own)]


def frames_lost(found: list[Stretch]) -> int:
    """By how many frames the sounds in a file are shorter than their own info frames say."""
    lost, missing = 0, 0
    for one in found:
        if one.declared is not None:
            lost, missing = lost + max(0, missing), one.declared
        missing -= one.frames
    return lost + max(0, missing)


def frame_bytes(header: int) -> int:
    """Length of the frame that a header of 32 bits begins; 0 where it is none."""
    return _LENGTHS[header >> 9 & 0xFFF] if header >= 0xFFE00000 else 0


def _table() -> list[int]:
    """Length by the 12 bits version, layer, protection, bit rate, sample rate, padding."""
    lengths = []
    for bits in range(1 << 12):
        version, layer = bits >> 10, 4 - (bits >> 8 & 3)
        rate, hertz, padding = bits >> 3 & 15, bits >> 1 & 3, bits & 1
        if version == 1 or layer == 4 or rate in (0, 15) or hertz == 3:
            lengths.append(0)
            continue
        one = version == 3
        bits_a_second = 1000 * _KBITS[one, layer][rate - 1]
        hertz = _HERTZ[hertz] // _PARTS[version]
        if layer == 1:
            lengths.append(4 * (12 * bits_a_second // hertz + padding))
        else:
            factor = 72 if layer == 3 and not one else 144
            lengths.append(factor * bits_a_second // hertz + padding)
    return lengths


_LENGTHS = _table()


class _Window:
    """A file's bytes up to ``stop``, a block at a time."""

    def __init__(self, file: int, stop: int) -> None:
        self.file, self.stop = file, stop
        self.base, self.block = 0, b""

    def hold(self, at: int, size: int) -> int:
        """Where byte ``at`` is in ``block``, which then holds ``size`` more, or up to the end."""
        if not self.base <= at <= at + size <= self.base + len(self.block):
            self.base = max(0, at - BEHIND)
            wanted = max(0, min(at + max(BLOCK, size), self.stop) - self.base)
            self.block = os.pread(self.file, wanted, self.base)
        return at - self.base

    def header(self, at: int) -> int:
        """The 32 bits at ``at``; 0 behind the end."""
        local = self.hold(at, 4)
        return int.from_bytes(self.block[local : local + 4]) if at + 4 <= self.stop else 0


def _next_chain(window: _Window, at: int, last: int) -> int | None:
    """Where the next frame begins, before ``last``, that others of its format follow."""
    while at < min(last, window.stop - 4):
        local = window.hold(at, 10)
        if window.block[local : local + 3] == b"ID3":
            size = window.block[local + 6 : local + 10]
            skipped = 10 + sum((byte & 127) << 7 * (3 - n) for n, byte in enumerate(size))
            at, last = at + skipped, last + skipped
            continue
        if _is_chain(window, at):
            return at
        local = window.hold(at, 10)
        found = _BEGINNING.search(window.block, local + 1)
        at = window.base + (found.start() if found else max(local + 1, len(window.block) - 2))
    return None


def _is_chain(window: _Window, at: int) -> bool:
    """Whether frames stand here: CHAIN of them, or fewer that end where the file ends."""
    first = window.header(at)
    for _ in range(CHAIN):
        header = window.header(at)
        length = frame_bytes(header)
        if not length or (header ^ first) & FORMAT_BITS:
            return False
        at += length
        if at == window.stop:
            return True
    return at <= window.stop


def _follow(window: _Window, at: int) -> Stretch:
    """The stretch that begins with the frame at ``at``; another info frame begins another."""
    found = Stretch(window.header(at), at, at)
    local = window.hold(at, LONGEST_FRAME)
    declared = _declared(window.block[local : local + 64])
    if declared is not None:
        at += frame_bytes(found.header)
        found.declared, found.start = declared or None, at
    kind, mono, begin = found.header & FORMAT_BITS, _is_mono(found.header), at
    unpack, lengths, stop = struct.Struct(">I").unpack_from, _LENGTHS, window.stop
    while at + 4 <= stop:
        local = window.hold(at, 64 if at + 64 <= stop else 4)
        block = window.block
        if len(block) < local + 4:
            break  # the file has become shorter
        header = unpack(block, local)[0]
        length = lengths[header >> 9 & 0xFFF]
        if header & FORMAT_BITS != kind or not length or at + length > stop:
            break
        if (header & 0xC0 == 0xC0) != mono:
            break
        if (
            block[local + 4 : local + 13] == _ZEROS
            and at > begin
            and _declared(block[local : local + 64]) is not None
        ):
            break
        at += length
        found.frames += 1
    found.stop = at
    return found


def _declared(frame: bytes) -> int | None:
    """The number of frames that an info frame says, 0 where it says none; None of another frame."""
    for tag in INFO_TAGS:
        at = frame.find(tag, 4, 44)
        if at >= 0:
            if tag == b"VBRI" or len(frame) < at + 12 or not frame[at + 7] & 1:
                return 0
            return int.from_bytes(frame[at + 8 : at + 12])
    return None


def _xing(header: int, frames: int, size: int) -> bytes:
    """A frame without sound that says how many frames and bytes follow; none but in layer III."""
    if header >> 17 & 3 != 1:
        return b""
    bare = (header | 0x10000) & ~0xF200  # no checksum; then the shortest frame that is long enough
    mpeg1, mono = header >> 19 & 3 == 3, _is_mono(header)
    side = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    rated = (bare | index << 12 for index in range(1, 15))
    chosen = next(one for one in rated if frame_bytes(one) >= 20 + side)
    length = frame_bytes(chosen)
    content = struct.pack(">I", chosen) + bytes(side) + b"Xing"
    return (content + struct.pack(">III", 3, frames, size + length)).ljust(length, b"\0")


def _is_mono(header: int) -> bool:
    return header & 0xC0 == 0xC0

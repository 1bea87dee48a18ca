"""Sound as short Ogg Vorbis: the same samples give the same bytes."""

from __future__ import annotations

import io
import zlib

import numpy as np
import soundfile
from numpy.typing import NDArray

LEVEL = 0.9  # of compression: some 4 kB a second
HEADER = 27  # bytes of a page before its table of segments
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def encode(samples: NDArray[np.float32], rate: int) -> bytes:
    """(samples,) at ``rate`` Hz, full scale ±1; what is louder is clipped."""
    stream = io.BytesIO()
    soundfile.write(
        stream, np.clip(samples, -1, 1), rate, format="OGG", subtype="VORBIS",
        compression_level=LEVEL,
    )  # fmt: skip
    return _with_serial(stream.getvalue(), 1)


def _with_serial(ogg: bytes, serial: int) -> bytes:
    """libsndfile draws a stream's number at random; each page has it, and a check sum."""
    pages, at = [], 0
    while at < len(ogg):
        segments = ogg[at + HEADER - 1]
        size = HEADER + segments + sum(ogg[at + HEADER : at + HEADER + segments])
        page = bytearray(ogg[at : at + size])
        page[14:18] = serial.to_bytes(4, "little")
        page[22:26] = bytes(4)
        page[22:26] = _check_sum(bytes(page)).to_bytes(4, "little")
        pages.append(bytes(page))
        at += size
    return b"".join(pages)


def _check_sum(page: bytes) -> int:
    """Ogg's CRC 32: zlib's polynomial with the highest bit first, from 0 and not inverted."""
    reversed_sum = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reversed_sum:032b}"[::-1], 2)

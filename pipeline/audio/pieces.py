"""A sound file read as if some of its bytes were others, or not there."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from pipeline.raw_file import RawFile

Piece = bytes | tuple[int, int]  # bytes that stand there, or [start, stop) of the file


class Pieces(RawFile):
    """A stream of ``pieces`` of a file, one behind the other; the file's own position stays.

    No method raises, because libsndfile calls them: what cannot be read ends the stream, and its
    reader finds too few samples.
    """

    def __init__(self, file: int, pieces: Sequence[Piece]) -> None:
        self._file, self._pieces = file, pieces
        sizes = [len(one) if isinstance(one, bytes) else one[1] - one[0] for one in pieces]
        self._starts = [0, *accumulate(sizes)]
        super().__init__(self._starts[-1])

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self._at < self._size:
            data = self._read(len(view) - done)
            if not data:
                break
            view[done : done + len(data)] = data
            done += len(data)
            self._at += len(data)
        return done

    def _read(self, size: int) -> bytes:
        """At most ``size`` bytes, of the one piece that the position is in."""
        number = bisect_right(self._starts, self._at) - 1
        piece, within = self._pieces[number], self._at - self._starts[number]
        if isinstance(piece, bytes):
            return piece[within : within + size]
        start = piece[0] + within
        try:
            return os.pread(self._file, min(size, piece[1] - start), start)
        except OSError:
            return b""

"""The streams of a chained Ogg file (RFC 3533, 4), of which libsndfile reads only the first."""

from __future__ import annotations

import os
from itertools import pairwise

from pipeline.audio.pieces import Piece

BEGINS = 2  # flag of a page: the first of its stream


def streams(file: int, size: int) -> list[list[Piece]]:
    """The bytes of each stream of an open Ogg file that follows another, as a stream of its own.

    A stream begins where a page that begins one follows a page that begins none; streams that lie
    in one another begin together and stay together.
    """
    starts: list[int] = []
    at, began = 0, False
    while at < size:
        page = os.pread(file, 27 + 255, at)
        if len(page) < 27 or page[:4] != b"OggS":
            break  # damaged: the decoder shall say so
        begins = bool(page[5] & BEGINS)
        if begins and not began:
            starts.append(at)
        began = begins
        at += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return [[(start, stop)] for start, stop in pairwise([*starts, size])]

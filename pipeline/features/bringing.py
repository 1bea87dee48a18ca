"""Recordings that are stored elsewhere, brought while others are decoded and encoded.

A request waits for tens of milliseconds and computes nothing, so many are on their way at once,
however few threads decode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pipeline.features.windows import DecodedRecording
from pipeline.storage.stored import Stored

REQUESTS = 16  # on their way at once, for one batch


def brought(recordings: Sequence[DecodedRecording]) -> Iterator[DecodedRecording]:
    """The recordings, in order; of those that are stored elsewhere, with their bytes.

    Raises:
        EarwitnessError: one cannot be brought, see :meth:`Stored.open`.
    """
    if not any(isinstance(one.sound, Stored) for one in recordings):
        yield from recordings
        return
    with ThreadPoolExecutor(REQUESTS) as requests:
        yield from requests.map(_brought, recordings)


def _brought(recording: DecodedRecording) -> DecodedRecording:
    if not isinstance(recording.sound, Stored):
        return recording
    return replace(recording, sound=recording.sound.fetched())

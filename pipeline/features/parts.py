"""Work that is done part by part and put together at the end, whatever happened in between.

A part is a fixed set of entries of the feature file, encoded together; which entries it holds does
not depend on what was done before, so a killed run that goes on gives a byte-identical file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.features.store import Header, Index, write_store
from pipeline.files import replacing
from pipeline.lock import exclusive

BLOCK_FRAMES = 1 << 16  # put together in memory before they are written


def folder_name(job: str, content: Any) -> str:
    """``<job>-<digest>``, with everything that a job's values depend on in the digest."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{job}-{digest[:16]}"


class Parts:
    """The parts of one feature file, in a folder of their own.

    Args:
        folder: named by everything that the values depend on.
        entries: each part's entries, (n,) int64; together every entry of the file, once.
        width: D.
    """

    def __init__(self, folder: Path, entries: Sequence[NDArray[np.int64]], width: int) -> None:
        self._folder = folder
        self._entries = entries
        self._width = width

    @contextmanager
    def held(self) -> Iterator[Parts]:
        """Holds the folder against a second run at once; a killed holder's is taken over."""
        with exclusive(self._folder.with_name(f"{self._folder.name}.lock")):
            self._folder.mkdir(parents=True, exist_ok=True)
            for leftover in self._folder.glob(".*"):  # a write that was killed
                leftover.unlink()
            yield self

    def missing(self) -> list[int]:
        """Parts that are not there, or not whole."""
        return [part for part in range(len(self._entries)) if self._load(part) is None]

    def save(self, part: int, values: NDArray[np.float16], lengths: NDArray[np.int64]) -> None:
        """Writes (frames, D) values of a part's entries, in the part's order, and their lengths."""
        arrays: tuple[NDArray[Any], ...] = (lengths, values)
        for path, array in zip(self._paths(part), arrays, strict=True):
            with replacing(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, array, allow_pickle=False)

    def assemble(self, path: Path, header: Header, ids: Sequence[str]) -> Index:
        """Puts all parts together as one feature file."""
        if not self._entries:  # of a dataset of captions alone
            return write_store(path, header, ids, np.zeros(0, np.int64), self._width, ())
        entries = np.concatenate(self._entries)
        loaded = [self._loaded(part) for part in range(len(self._entries))]
        part_of = np.repeat(np.arange(len(loaded)), [len(own) for own in self._entries])
        lengths = np.concatenate([own for own, _ in loaded])
        starts = np.concatenate([np.cumsum(own) - own for own, _ in loaded])
        order = np.argsort(entries)  # position in the parts of each entry of the file
        if not np.array_equal(entries[order], np.arange(len(ids) * header.views)):
            raise ValueError(f"{self._folder}: the parts are not each entry once")

        def blocks() -> Iterator[NDArray[np.float16]]:
            waiting: list[NDArray[np.float16]] = []
            frames = 0
            for at in order.tolist():
                start = starts[at]
                waiting.append(loaded[part_of[at]][1][start : start + lengths[at]])
                frames += len(waiting[-1])
                if frames >= BLOCK_FRAMES:
                    yield np.concatenate(waiting)
                    waiting, frames = [], 0
            if waiting:
                yield np.concatenate(waiting)

        return write_store(path, header, ids, lengths[order], self._width, blocks())

    def remove(self) -> None:
        """The file is in its place: nothing of the parts stays."""
        shutil.rmtree(self._folder)

    def _paths(self, part: int) -> tuple[Path, Path]:
        name = f"{part:06d}"
        return self._folder / f"{name}.lengths.npy", self._folder / f"{name}.values.npy"

    def _loaded(self, part: int) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        loaded = self._load(part)
        if loaded is None:
            raise ValueError(f"{self._folder}: part {part} is not there")
        return loaded

    def _load(self, part: int) -> tuple[NDArray[np.int64], NDArray[np.float16]] | None:
        """Lengths and memory-mapped values; None where they are not there or not whole."""
        lengths_path, values_path = self._paths(part)
        try:
            lengths = np.load(lengths_path, allow_pickle=False)
            empty = lengths.sum() == 0  # an empty array cannot be mapped
            values = np.load(values_path, mmap_mode=None if empty else "r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        whole = (
            lengths.shape == (len(self._entries[part]),)
            and values.dtype == np.float16
            and values.shape == (lengths.sum(), self._width)
        )
        return (lengths, values) if whole else None

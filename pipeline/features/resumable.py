"""A feature file that is made in parts, so that a run that was killed can continue.

A part is a fixed set of entries of the feature file, encoded together. Which entries are in a part
never depends on earlier runs, so a run that was continued gives a byte-identical file.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.features.store import Header, Index, write_store
from pipeline.files import replacing, write_json
from pipeline.lock import exclusive, is_awaited, one_writer

BLOCK_FRAMES = 1 << 16  # written together


def folder_name(job: str, content: Any) -> str:
    """``<job>-<digest>``; ``content`` is all that the job's values depend on."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{job}-{digest[:16]}"


class Parts:
    """The parts of one feature file, in a folder.

    Args:
        folder: its name must depend on all that the values depend on, see :func:`folder_name`.
        entries: each part's entries, (n,) int64; in all parts, every entry of the file once.
        width: D.
    """

    def __init__(self, folder: Path, entries: Sequence[NDArray[np.int64]], width: int) -> None:
        self._folder = folder
        self._lock = folder.with_name(f"{folder.name}.lock")
        self._entries = entries
        self._width = width

    @contextmanager
    def held(self, output: Path) -> Iterator[Parts]:
        """Locks the folder against a second process; a killed process's parts are kept.

        A process that makes the same file elsewhere, such as of an experiment beside this one, is
        waited for, and its parts are used.

        Args:
            output: the feature file that is made of the parts.

        Raises:
            EarwitnessError: another process makes this very file.
        """
        job = self._folder.name.rpartition("-")[0]
        with (
            one_writer(self._folder.parent, job, output),
            exclusive(self._lock, wait=True, what=f"makes the same features ({job})"),
        ):
            self._folder.mkdir(parents=True, exist_ok=True)
            for leftover in self._folder.glob(".*"):  # of a process that was killed
                leftover.unlink()
            yield self

    def missing(self) -> list[int]:
        """The parts that are missing, incomplete or damaged."""
        return [
            part
            for part in range(len(self._entries))
            if not self._intact(part) or self._load(part) is None
        ]

    def save(self, part: int, values: NDArray[np.float16], lengths: NDArray[np.int64]) -> None:
        """Writes (frames, D) values of a part's entries, in the part's order, and their lengths."""
        arrays: tuple[NDArray[Any], ...] = (lengths, values)
        sums = []
        for path, array in zip(self._paths(part), arrays, strict=True):
            stream = io.BytesIO()
            np.save(stream, array, allow_pickle=False)
            with replacing(path) as temporary:
                temporary.write_bytes(stream.getbuffer())
            sums.append(zlib.crc32(stream.getbuffer()))
        write_json(self._sums_path(part), sums)  # last: a part without them is incomplete

    def assemble(self, path: Path, header: Header, ids: Sequence[str]) -> Index:
        """Joins all parts into one feature file."""
        if not self._entries:  # a dataset of captions alone has no sound
            return write_store(path, header, ids, np.zeros(0, np.int64), self._width, ())
        entries = np.concatenate(self._entries)
        loaded = [self._loaded(part) for part in range(len(self._entries))]
        part_of = np.repeat(np.arange(len(loaded)), [len(part) for part in self._entries])
        lengths = np.concatenate([frames for frames, _ in loaded])
        starts = np.concatenate([np.cumsum(frames) - frames for frames, _ in loaded])
        order = np.argsort(entries)  # where in the parts each entry of the file is
        if not np.array_equal(entries[order], np.arange(len(ids) * header.views)):
            raise ValueError(f"{self._folder}: the parts do not have each entry once")

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
        """Deletes the parts, once the file is in place; a process that waits for them has them."""
        if not is_awaited(self._lock):
            shutil.rmtree(self._folder)

    def _paths(self, part: int) -> tuple[Path, Path]:
        name = f"{part:06d}"
        return self._folder / f"{name}.lengths.npy", self._folder / f"{name}.values.npy"

    def _sums_path(self, part: int) -> Path:
        return self._folder / f"{part:06d}.crc32.json"

    def _intact(self, part: int) -> bool:
        """Whether both files are what :meth:`save` wrote, to the byte."""
        try:
            files = (self._sums_path(part), *self._paths(part))
            if not all(path.is_file() for path in files):  # a pipe would wait
                return False
            sums = json.loads(files[0].read_bytes())
            return sums == [zlib.crc32(path.read_bytes()) for path in self._paths(part)]
        except (OSError, ValueError, RecursionError):
            return False

    def _loaded(self, part: int) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        loaded = self._load(part)
        if loaded is None:
            raise ValueError(f"{self._folder}: part {part} is missing")
        return loaded

    def _load(self, part: int) -> tuple[NDArray[np.int64], NDArray[np.float16]] | None:
        """Lengths and memory-mapped values; None where they are missing or incomplete."""
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

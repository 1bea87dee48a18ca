"""Frames as they lie on the disk: float16, or int8 with a scale a frame; in one file or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.config.feature_files import StoredAs

INT8 = 127  # the largest value's size


def quantised(rows: NDArray[np.floating[Any]]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(n, D) finite → the same in int8, and (n,) what to multiply each row by.

    A row's largest value becomes ±127, so that no value is off by more than 1/254 of that.
    """
    rows = rows.astype(np.float32, copy=False)
    scales = np.abs(rows).max(axis=1, initial=0.0) / INT8
    whole = np.rint(rows / np.where(scales > 0, scales, 1)[:, None])
    return whole.astype(np.int8), scales.astype(np.float32)


def restored(values: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float16]:
    """(n, D) and (n,) → the float16 that they stand for; the bank computes the same."""
    with np.errstate(over="ignore", invalid="ignore"):  # scales that someone else wrote
        return (values.astype(np.float32) * scales[:, None]).astype(np.float16)


def as_stored(frames: NDArray[np.float16], store: StoredAs) -> NDArray[np.float16]:
    """(n, D) as they are read back from a file."""
    return frames if store == "float16" else restored(*quantised(frames))


class FilePart(NamedTuple):
    """Frames of one file, or a copy of some of them."""

    values: NDArray[np.float16] | NDArray[np.int8]  # (n, D)
    scales: NDArray[np.float32] | None  # (n,) of int8; None: of float16


class StoredFrames:
    """(frames, D) in one or several files, which are memory-mapped.

    It is read as an array is, by a slice or by rows: ``frames[3:9]`` is float16.

    Args:
        parts: one or more, each of ``per_file`` frames, the last of those that are left.
    """

    def __init__(self, parts: Sequence[FilePart], per_file: int) -> None:
        self.parts, self.per_file = tuple(parts), per_file
        self._frames = sum(len(part.values) for part in parts)

    def __len__(self) -> int:
        return self._frames

    @property
    def shape(self) -> tuple[int, int]:
        return self._frames, int(self.parts[0].values.shape[1])

    @property
    def frame_bytes(self) -> int:
        """Of one frame, as it is stored."""
        values, scales = self.parts[0]
        return self.shape[1] * values.itemsize + (0 if scales is None else scales.itemsize)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float16]:
        """(n, D): a view of the file where it can be one, else a copy."""
        values, scales = self.raw(rows)
        if values.dtype == np.float16 or scales is None:
            return values.view(np.float16)
        return restored(values.view(np.int8), scales)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype, copy=copy)

    def raw(self, rows: slice | NDArray[np.int64]) -> FilePart:
        """As they are stored."""
        if not isinstance(rows, slice):
            return self._chosen(rows)
        start, stop, step = rows.indices(self._frames)
        if step != 1:
            return self._chosen(np.arange(start, stop, step))
        pieces = []
        while start < stop:
            number, first = divmod(start, self.per_file)
            part = self.parts[number]
            last = min(first + stop - start, len(part.values))
            pieces.append(_rows(part, slice(first, last)))
            start += last - first
        return _joined(pieces) if pieces else _rows(self.parts[0], slice(0, 0))

    def _chosen(self, rows: NDArray[np.int64]) -> FilePart:
        if len(self.parts) == 1:
            return _rows(self.parts[0], rows)
        first = self.parts[0]
        values = np.empty((len(rows), self.shape[1]), first.values.dtype)
        scales = None if first.scales is None else np.empty(len(rows), np.float32)
        numbers = rows // self.per_file
        for number in np.unique(numbers).tolist():
            at = np.flatnonzero(numbers == number)
            found = _rows(self.parts[number], rows[at] - number * self.per_file)
            values[at] = found.values
            if scales is not None:
                scales[at] = found.scales
        return FilePart(values, scales)


def _rows(part: FilePart, rows: slice | NDArray[np.int64]) -> FilePart:
    if isinstance(rows, slice):
        return FilePart(part.values[rows], None if part.scales is None else part.scales[rows])
    values: NDArray[Any] = np.take(part.values, rows, axis=0)
    return FilePart(values, None if part.scales is None else np.take(part.scales, rows))


def _joined(pieces: Sequence[FilePart]) -> FilePart:
    if len(pieces) == 1:
        return pieces[0]
    scales = [each.scales for each in pieces if each.scales is not None]
    values: NDArray[Any] = np.concatenate([each.values for each in pieces])
    return FilePart(values, np.concatenate(scales) if scales else None)

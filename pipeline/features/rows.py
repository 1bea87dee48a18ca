"""Frames as tensors that batches are gathered from, in RAM, on a GPU, or memory-mapped."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.features.frames import FilePart


class FrameRows:
    """(frames, D) as they are stored: the bits of float16, or int8 with a scale a frame.

    Args:
        parts: one, or the files of a store, each of ``per_file`` frames but the last.
    """

    def __init__(self, parts: Sequence[FilePart], per_file: int) -> None:
        self._per_file = per_file
        # integers of 16 bits are faster to copy than float16
        self._values = [
            _tensor(part.values)
            if part.scales is not None
            else _tensor(part.values).view(torch.int16)
            for part in parts
        ]
        self._scales = [_tensor(part.scales) for part in parts if part.scales is not None]

    def to(self, device: torch.device) -> None:
        """Moves all of it there."""
        self._values = [values.to(device) for values in self._values]
        self._scales = [scales.to(device) for scales in self._scales]

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """(n,) int64 rows where the frames are → (n, D) int16 bits of float16; or int8, and (n,)
        scales.
        """
        if len(self._values) == 1:
            scales = self._scales[0].index_select(0, rows) if self._scales else None
            return self._values[0].index_select(0, rows), scales
        parts = rows // self._per_file
        first = self._values[0]
        values = torch.empty((len(rows), first.shape[1]), dtype=first.dtype)
        scales = torch.empty(len(rows)) if self._scales else None
        for part in parts.unique().tolist():
            at = (parts == part).nonzero()[:, 0]
            own = rows[at] - part * self._per_file
            values.index_copy_(0, at, self._values[part].index_select(0, own))
            if scales is not None:
                scales.index_copy_(0, at, self._scales[part].index_select(0, own))
        return values, scales


def restored_bits(values: Tensor, scales: Tensor) -> Tensor:
    """(n, D) int8 and (n,) scales → the bits of float16; :func:`pipeline.features.frames.restored`
    on any device.
    """
    return (values.float() * scales[:, None]).half().view(torch.int16)


def _tensor(values: NDArray[Any]) -> Tensor:
    """The array itself, or the file's pages, which are only read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(values)

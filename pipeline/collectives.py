"""One of several processes that train together, and what they send each other by torch.distributed.

All call the same functions in the same order. What for is in pipeline/ranks.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.errors import EarwitnessError, reason

# of waiting for another rank, which may be loading; one that has ended is seen at once
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Rank:
    """One of ``count`` processes."""

    number: int  # from 0
    count: int
    here: int  # of them on this machine
    device: torch.device

    def slice(self, size: int) -> slice:
        """Its part of ``size`` items; the ranks' parts follow each other, and cover all."""
        return slice(size * self.number // self.count, size * (self.number + 1) // self.count)

    def sizes(self, size: int) -> tuple[int, ...]:
        """Items in each rank's part."""
        ends = [size * number // self.count for number in range(self.count + 1)]
        return tuple(end - start for start, end in pairwise(ends))


class LostRankError(EarwitnessError):
    """Another process of this training has ended."""


_own: Rank | None = None  # None: this process trains alone
_rows: tuple[int, ...] = ()  # of the batch that is computed now, in each rank


def own() -> Rank | None:
    """This process as one of several; None: it is alone."""
    return _own


@contextmanager
def divided(rows: int) -> Iterator[None]:
    """In this context a batch of ``rows`` is computed, of which each rank has its part."""
    global _rows
    assert _own is not None
    _rows = _own.sizes(rows)
    try:
        yield
    finally:
        _rows = ()


def rows() -> tuple[int, ...]:
    """Of the batch that is computed now, in each rank."""
    return _rows


@contextmanager
def joined(rank: Rank, meeting: str) -> Iterator[None]:
    """In this context the process is one of several.

    Args:
        meeting: where they find each other, as torch's ``init_method``.

    Raises:
        LostRankError: another one has ended.
    """
    global _own
    on_cuda = rank.device.type == "cuda"
    if on_cuda:
        torch.cuda.set_device(rank.device)
    with _together():
        dist.init_process_group(
            "nccl" if on_cuda else "gloo",
            init_method=meeting,
            rank=rank.number,
            world_size=rank.count,
            timeout=PATIENCE,
        )
    _own = rank
    try:
        yield
    finally:
        _own = None
    dist.destroy_process_group()  # after an error it could wait for the others


def summed(values: Tensor) -> Tensor:
    """The ranks' sum, as a new tensor without gradients."""
    total = values.detach().clone(memory_format=torch.contiguous_format)
    with _together():
        dist.all_reduce(total)
    return total


def concatenated(values: Tensor, rows: Sequence[int]) -> Tensor:
    """(n, …) of each rank, n as in ``rows`` → (Σn, …) of all, in their order, without gradients."""
    padded = values.new_zeros(max(rows), *values.shape[1:])
    padded[: len(values)] = values.detach()
    parts = [torch.empty_like(padded) for _ in rows]
    with _together():
        dist.all_gather(parts, padded)
    return torch.cat([part[:number] for part, number in zip(parts, rows, strict=True)])


def of_first(values: Tensor) -> Tensor:
    """The first rank's tensor; all give one of this shape."""
    sent = values.detach().clone(memory_format=torch.contiguous_format)
    with _together():
        dist.broadcast(sent, 0)
    return sent


@contextmanager
def _together() -> Iterator[None]:
    """Around a collective, which fails where another rank has ended."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostRankError(
            f"another process of this training does not answer ({reason(error)}); "
            "run it again: it goes on from the last checkpoint"
        ) from error

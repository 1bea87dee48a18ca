"""One training in several processes, its ranks, that ends with the numbers of one process.

Every rank has the whole model, and a part of the rows of every batch. Its loss is made so that
**the mean of the ranks' losses is the loss of the whole batch**, so the mean of their gradients is
that loss' gradient. What looks over a batch needs one of these:

- :func:`gathered`: all rows of the batch, for losses that compare rows;
- :func:`weighted`: a mean over items of which ranks have different numbers, such as tokens;
- :func:`summed`: sums over the batch, for batch norms.

A mean over rows is right without any, where the ranks' parts have equally many rows.

In one process every function gives back what it was given, and computes nothing. All ranks call
them in the same order; ``torch.compile`` does not trace what they send each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from pipeline import collectives
from pipeline.collectives import own
from pipeline.threads import cores

T = TypeVar("T")

BUCKET = 1 << 24  # numbers that are averaged at once, so that the copy of them stays small

_shared = False  # whether the batch that is computed now is divided among the ranks


def is_first() -> bool:
    """Whether this process writes, shows and tracks."""
    rank = own()
    return rank is None or rank.number == 0


def count() -> int:
    """How many train together."""
    rank = own()
    return 1 if rank is None else rank.count


def here() -> int:
    """How many of them are on this machine, whose memory they share."""
    rank = own()
    return 1 if rank is None else rank.here


def threads(given: int | Literal["auto"]) -> int | Literal["auto"]:
    """Of the threads that a job is ``given``, those of this rank."""
    if here() == 1:
        return given
    return max(1, (cores() if given == "auto" else given) // here())


def part(start: int, stop: int) -> tuple[slice, int]:
    """Which rows of a batch this rank computes, and how many all ranks have together.

    The ranks' rows follow each other. A batch with fewer rows than ranks is computed whole by each:
    then, and in one process, the number is 0.
    """
    rank, rows = own(), stop - start
    if rank is None or rows < rank.count:
        return slice(start, stop), 0
    mine = rank.slice(rows)
    return slice(start + mine.start, start + mine.stop), rows


def mine(items: Sequence[T]) -> Sequence[T]:
    """This rank's part of a list, such as of the batches to validate on; the parts follow."""
    rank = own()
    return items if rank is None else items[rank.slice(len(items))]


# of a step


@contextmanager
def sharing(batch: Any) -> Iterator[None]:
    """In this context losses and batch norms are those of the whole batch.

    Args:
        batch: has ``whole``, the number that :func:`part` gave. It is not looked at in one process.
    """
    global _shared
    rank = own()
    if rank is None or batch.whole == 0:
        yield
        return
    _shared = True
    try:
        with collectives.divided(batch.whole):
            yield
    finally:
        _shared = False


def shared() -> bool:
    """Whether other ranks have other rows of the batch that is computed now."""
    return _shared


def gathered(values: Tensor) -> Tensor:
    """(B, …) of this rank's rows → those of the whole batch, in its order, with gradients."""
    if not _shared:
        return values
    from pipeline.rank_sums import gather

    return gather(values)


def summed(values: Tensor) -> Tensor:
    """The ranks' sum of a tensor, with gradients."""
    if not _shared:
        return values
    from pipeline.rank_sums import add

    return add(values)


def weighted(loss: Tensor, items: Tensor | int) -> Tensor:
    """A mean over ``items`` of this rank, as its part of the mean over all ranks' items."""
    if not _shared:
        return loss
    from pipeline.rank_sums import weigh

    return weigh(loss, items)


def drawn(values: Tensor) -> Tensor:
    """What the first rank drew, where each drew for the whole batch."""
    if not _shared:
        return values
    from pipeline.rank_sums import draw

    return draw(values)


# between steps


def average(values: Tensor) -> Tensor:
    """The mean over the ranks."""
    return values if own() is None else collectives.summed(values) / count()


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replaces every gradient by the mean over the ranks, in flat buckets.

    All ranks ran the same graph, so the same parameters have a gradient in each.
    """
    if own() is None:
        return
    by_dtype: dict[torch.dtype, list[list[Tensor]]] = {}
    for gradient in (p.grad for p in parameters if p.grad is not None):
        buckets = by_dtype.setdefault(gradient.dtype, [[]])
        if sum(each.numel() for each in buckets[-1]) >= BUCKET:
            buckets.append([])
        buckets[-1].append(gradient)
    for bucket in (bucket for buckets in by_dtype.values() for bucket in buckets):
        flat = average(torch.cat([each.flatten() for each in bucket]))
        means = flat.split([each.numel() for each in bucket])
        for gradient, mean in zip(bucket, means, strict=True):
            gradient.copy_(mean.view_as(gradient))


def from_first(numbers: Sequence[float]) -> list[float]:
    """The first rank's numbers, so that all decide the same."""
    rank = own()
    if rank is None:
        return list(numbers)
    sent = torch.tensor(numbers, dtype=torch.float64, device=rank.device)
    return [float(number) for number in collectives.of_first(sent).tolist()]


@torch.no_grad()
def copy_first(module: nn.Module) -> None:
    """Gives all ranks the first one's weights."""
    if own() is not None:
        for tensor in module.state_dict().values():
            tensor.copy_(collectives.of_first(tensor))


def spread_draws(step: int) -> None:
    """From ``step`` on, each rank but the first has random numbers of its own.

    They follow from the first one's state, which checkpoints have: a run that is killed and started
    again with as many ranks draws the same.
    """
    rank = own()
    if rank is None:
        return
    state = collectives.of_first(torch.get_rng_state().to(rank.device)).cpu()
    if rank.number:
        digest = hashlib.sha256(f"{rank.number}, {step}, ".encode() + state.numpy().tobytes())
        torch.manual_seed(int.from_bytes(digest.digest()[:4]))


def wait() -> None:
    """Until all ranks are here."""
    if (rank := own()) is not None:
        collectives.summed(torch.zeros(1, device=rank.device)).item()


def all_rows(values: Tensor) -> Tensor:
    """(n, …) of each rank, of which each may have another n → all, in the order of the ranks."""
    rank = own()
    return values if rank is None else collectives.concatenated(values, _lengths(len(values), rank))


def all_texts(texts: Sequence[str]) -> list[str]:
    """Each rank's texts, in the order of the ranks."""
    rank = own()
    if rank is None:
        return list(texts)
    written = torch.tensor(list(json.dumps(list(texts)).encode()), dtype=torch.uint8)
    lengths = _lengths(len(written), rank)
    found = collectives.concatenated(written.to(rank.device), lengths).cpu()
    parts = (bytes(each.tolist()) for each in found.split(lengths))
    return [text for each in parts for text in json.loads(each)]


def _lengths(length: int, rank: collectives.Rank) -> list[int]:
    """Every rank's ``length``."""
    sent = torch.tensor([length], device=rank.device)
    lengths: list[int] = collectives.concatenated(sent, [1] * rank.count).tolist()
    return lengths

"""What ranks send each other within a step, with gradients; ``torch.compile`` does not trace it.

Imported where it is needed: its decorator loads torch's compiler, which takes seconds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline import collectives
from pipeline.uncompiled import uncompiled


@uncompiled
def gather(values: Tensor) -> Tensor:
    """See :func:`pipeline.ranks.gathered`."""
    if not values.requires_grad:
        return collectives.concatenated(values, collectives.rows())
    gathered: Tensor = _Gather.apply(values)
    return gathered


@uncompiled
def add(values: Tensor) -> Tensor:
    """See :func:`pipeline.ranks.summed`."""
    if not values.requires_grad:
        return collectives.summed(values)
    total: Tensor = _Add.apply(values)
    return total


@uncompiled
def weigh(loss: Tensor, items: Tensor | int) -> Tensor:
    """See :func:`pipeline.ranks.weighted`."""
    number = torch.as_tensor(items, device=loss.device)
    mean = collectives.summed(number).clamp(min=1) / len(collectives.rows())
    return loss * (number / mean)


@uncompiled
def draw(values: Tensor) -> Tensor:
    """See :func:`pipeline.ranks.drawn`."""
    return collectives.of_first(values)


class _Gather(torch.autograd.Function):
    """Backwards each rank gets what all ranks' losses say of its rows: their sum."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return collectives.concatenated(values, collectives.rows())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        rank = collectives.own()
        assert rank is not None
        return collectives.summed(gradient)[rank.slice(len(gradient))]


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return collectives.summed(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return collectives.summed(gradient)

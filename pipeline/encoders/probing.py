"""What a model is like that is known by its outputs alone: its least input, its frames' period."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def noise(samples: int) -> Tensor:
    """(1, samples), the same every time."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(1, samples, generator=generator)


def fewest(holds: Callable[[int], bool], most: int) -> int:
    """The least number from which on ``holds`` is true, as it is of ``most``."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def samples_per_frame(
    count: Callable[[int], int], shortest: int, near: int, longest: int
) -> float | None:
    """How many samples more make a frame more; None where they make none.

    Args:
        count: frames of so many samples.
        shortest: the fewest samples of which there are any.
        near: where to look first, which is quicker.
        longest: the most samples.
    """
    for most in (min(near, longest), longest):
        few, many = count(max(shortest, most // 2)), count(most)
        if 0 < few < many:
            first, last = (_first(count, frames, most) for frames in (few, many))
            return (last - first) / (many - few)
    return None


def _first(count: Callable[[int], int], frames: int, most: int) -> int:
    return fewest(lambda samples: count(samples) >= frames, most)

"""Learning-rate schedules: pure functions of the step and of the validation scores so far.

A schedule holds no state, so a resumed run needs none of it. The scores are there for schedules
that wait for a plateau; most look at the step alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pipeline.config import Training

# (steps taken so far, validation scores so far) → factor on training.learning_rate
Schedule = Callable[[int, Sequence[float]], float]


def cyclic_cosine(training: Training, steps_per_epoch: int) -> Schedule:
    """EDTC 4.3: "In a cycle of 4 epochs, the benchmark learning rate first decreased by 10 times
    and then recovered", and "halve the baseline learning rate every 4 epochs".

    At ``e`` epochs the factor is ``2^-⌊e / h⌋ · (f + (1 - f) (1 + cos(2π e / c)) / 2)`` with ``h``
    the epochs of a halving, ``f`` the floor and ``c`` the cycle: the floor is reached in the middle
    of a cycle. The linear warm-up (ours) multiplies it and moves no cycle; its first step is
    already above zero.
    """

    def factor(step: int, scores: Sequence[float]) -> float:
        epoch = step / steps_per_epoch
        wave = (1 + math.cos(2 * math.pi * epoch / training.cycle_epochs)) / 2
        cosine = training.cycle_floor + (1 - training.cycle_floor) * wave
        base = 0.5 ** math.floor(epoch / training.halve_epochs + 1e-9)  # 0.3 // 0.1 is 2
        return base * cosine * linear_warmup(step + 1, training.warmup_epochs * steps_per_epoch)

    return factor


def linear_warmup(step: int, steps: float) -> float:
    """Rises from 0 before the first step to 1 at ``steps`` and stays there."""
    return min(1.0, step / steps) if steps > 0 else 1.0


SCHEDULES: dict[str, Callable[[Training, int], Schedule]] = {"cyclic_cosine": cyclic_cosine}

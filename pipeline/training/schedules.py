"""Learning-rate schedules: pure functions of the step and of the validation scores so far.

A schedule holds no state, so a resumed run needs none of it. The scores are there for schedules
that wait for a plateau; most look at the step alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pipeline.config.training import OptimisationConfig
from pipeline.errors import EarwitnessError

# (steps taken so far, validation scores so far) → factor on learning_rate
Schedule = Callable[[int, Sequence[float]], float]


def cyclic_cosine(training: OptimisationConfig, steps_per_epoch: int) -> Schedule:
    """EDTC 4.3: "In a cycle of 4 epochs, the benchmark learning rate first decreased by 10 times
    and then recovered", and "halve the baseline learning rate every 4 epochs".

    At ``e`` epochs the factor is ``2^-⌊e / h⌋ · (f + (1 - f) (1 + cos(2π e / c)) / 2)`` with ``h``
    the epochs of a halving, ``f`` the floor and ``c`` the cycle: the floor is reached in the middle
    of a cycle. The linear warm-up (ours) multiplies it and moves no cycle; its first step is
    already above zero.
    """
    warmup = warmup_steps(training, steps_per_epoch)

    def factor(step: int, scores: Sequence[float]) -> float:
        epoch = step / steps_per_epoch
        wave = (1 + math.cos(2 * math.pi * epoch / training.cycle_epochs)) / 2
        cosine = training.cycle_floor + (1 - training.cycle_floor) * wave
        base = 0.5 ** math.floor(epoch / training.halve_epochs + 1e-9)  # 0.3 // 0.1 is 2
        return base * cosine * linear_warmup(step + 1, warmup)

    return factor


def linear_warmup(step: int, steps: float) -> float:
    """Rises from 0 before the first step to 1 at ``steps`` and stays there."""
    return min(1.0, step / steps) if steps > 0 else 1.0


def cosine(training: OptimisationConfig, steps_per_epoch: int) -> Schedule:
    """Linear warm-up, then half a cosine to ``decay_to`` at the last step (SJTU 3, retrieval)."""

    def after(share: float) -> float:
        return training.decay_to + (1 - training.decay_to) * (1 + math.cos(math.pi * share)) / 2

    return _warmed_up(training, steps_per_epoch, after)


def exponential(training: OptimisationConfig, steps_per_epoch: int) -> Schedule:
    """Linear warm-up, then an exponential to ``decay_to`` at the last step (SJTU 3, captioning)."""
    if training.decay_to <= 0:
        raise EarwitnessError("schedule: exponential needs decay_to above 0, such as 0.001")
    return _warmed_up(training, steps_per_epoch, lambda share: training.decay_to**share)


def constant(training: OptimisationConfig, steps_per_epoch: int) -> Schedule:
    """Linear warm-up, then 1 (SJTU 3, self-critical training)."""
    return _warmed_up(training, steps_per_epoch, lambda share: 1.0)


def step(training: OptimisationConfig, steps_per_epoch: int) -> Schedule:
    """Linear warm-up, then times ``step_factor`` every ``step_epochs`` (WSAC 4.2).

    The epochs are counted from the warm-up's end: the rate "is *then* multiplied".
    """
    warmup = warmup_steps(training, steps_per_epoch)
    each = training.step_epochs * steps_per_epoch

    def factor(step: int, scores: Sequence[float]) -> float:
        falls = math.floor(max(0.0, step - warmup) / each + 1e-9)
        return linear_warmup(step + 1, warmup) * training.step_factor**falls

    return factor


def plateau(training: OptimisationConfig, steps_per_epoch: int) -> Schedule:
    """Linear warm-up, then 1, times ``plateau_factor`` whenever the validation score has not risen
    in more than ``plateau_epochs`` epochs, down to ``decay_to`` (CMU 5.2).

    As torch's ``ReduceLROnPlateau`` counts, with no threshold. The official baseline watches the
    loss of the validation split; the score is what the best model is chosen by.
    """
    warmup = warmup_steps(training, steps_per_epoch)
    patience = training.plateau_epochs * training.validations_per_epoch

    def factor(step: int, scores: Sequence[float]) -> float:
        best, waited, rate = -math.inf, 0, 1.0
        for score in scores:
            best, waited = (score, 0) if score > best else (best, waited + 1)
            if waited > patience:
                rate, waited = rate * training.plateau_factor, 0
        return max(rate, training.decay_to) * linear_warmup(step + 1, warmup)

    return factor


def warmup_steps(training: OptimisationConfig, steps_per_epoch: int) -> float:
    """The warm-up's length in steps."""
    return training.warmup_epochs * steps_per_epoch + training.warmup_steps


def _warmed_up(
    training: OptimisationConfig, steps_per_epoch: int, after: Callable[[float], float]
) -> Schedule:
    """``after`` is given the share of the steps after the warm-up that are done, 0 to 1."""
    warmup = warmup_steps(training, steps_per_epoch)
    left = max(1.0, training.epochs * steps_per_epoch - 1 - warmup)

    def factor(step: int, scores: Sequence[float]) -> float:
        if step + 1 <= warmup:
            return linear_warmup(step + 1, warmup)
        return after(min(1.0, max(0.0, (step - warmup) / left)))

    return factor


SCHEDULES: dict[str, Callable[[OptimisationConfig, int], Schedule]] = {
    "cyclic_cosine": cyclic_cosine,
    "cosine": cosine,
    "exponential": exponential,
    "constant": constant,
    "plateau": plateau,
    "step": step,
}


def build_schedule(training: OptimisationConfig, batches: int) -> Schedule:
    """The schedule that ``training`` names, of epochs of so many ``batches``."""
    return SCHEDULES[training.schedule](training, optimizer_steps(training, batches))


def optimizer_steps(training: OptimisationConfig, batches: int) -> int:
    """Steps of the optimizer in an epoch of so many ``batches``."""
    return -(-batches // training.accumulate)

"""Learning-rate schedules: pure functions of the step and of the validation scores so far.

A schedule has no state, so there is none to restore. The scores are for schedules that wait for a
plateau; most use the step alone.
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

    At ``e`` epochs the factor is ``2^-⌊e / h⌋ · (f + (1 - f) (1 + cos(2π e / c)) / 2)``, where the
    rate is halved every ``h`` epochs, ``f`` is the floor, reached in the middle of a cycle, and
    ``c`` is a cycle's epochs. The linear warm-up (ours) multiplies the factor, does not shift the
    cycles, and is above zero from its first step.
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
    """Rises from 0 before the first step to 1 at ``steps``, and stays 1."""
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
    """Linear warm-up, then multiplied by ``step_factor`` every ``step_epochs`` (WSAC 4.2).

    Epochs count from the end of the warm-up: the rate "is *then* multiplied".
    """
    warmup = warmup_steps(training, steps_per_epoch)
    each = training.step_epochs * steps_per_epoch

    def factor(step: int, scores: Sequence[float]) -> float:
        falls = math.floor(max(0.0, step - warmup) / each + 1e-9)
        return linear_warmup(step + 1, warmup) * training.step_factor**falls

    return factor


def plateau(training: OptimisationConfig, steps_per_epoch: int) -> Schedule:
    """Linear warm-up, then 1, times ``plateau_factor`` whenever the validation score did not
    rise for more than ``plateau_epochs`` epochs, down to ``decay_to`` (CMU 5.2).

    It counts as torch's ``ReduceLROnPlateau``, without a threshold. The official baseline uses the
    validation loss; here it is the score that chooses the best model.
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
    """``after`` gives the factor for the share, 0 to 1, of the steps after the warm-up."""
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
    """The schedule that ``training`` names; an epoch has so many ``batches``."""
    return SCHEDULES[training.schedule](training, optimizer_steps(training, batches))


def optimizer_steps(training: OptimisationConfig, batches: int) -> int:
    """Steps of the optimizer in an epoch of so many ``batches``."""
    return -(-batches // training.accumulate)

"""The papers' schedules against values worked out by hand from their words."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch

from pipeline.config.training import RetrievalTrainingConfig, ScstConfig, TrainingConfig
from pipeline.errors import EarwitnessError
from pipeline.training.schedules import (
    SCHEDULES,
    build_schedule,
    constant,
    cosine,
    cyclic_cosine,
    exponential,
    linear_warmup,
)

PAPER = TrainingConfig(learning_rate=3e-5, cycle_epochs=4, cycle_floor=0.1, halve_epochs=4)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (0, 3e-5),  # starts at the base rate
        (1, 3e-5 * 0.55),  # halfway down: (1 + 0.1) / 2
        (2, 3e-6),  # tenfold down in the middle of the cycle
        (3, 3e-5 * 0.55),  # halfway up
        (4, 1.5e-5),  # recovered, onto a base that is now half
        (6, 1.5e-6),
        (8, 7.5e-6),
        (19, 3e-5 / 16 * 0.55),
    ],
)
def test_paper_values(epoch: int, rate: float) -> None:
    schedule = cyclic_cosine(PAPER, steps_per_epoch=600)
    assert 3e-5 * schedule(600 * epoch, ()) == pytest.approx(rate, rel=1e-9)


def test_recovers_before_it_is_halved() -> None:
    schedule = cyclic_cosine(PAPER, steps_per_epoch=1000)
    assert schedule(3999, ()) == pytest.approx(1.0, rel=1e-5)
    assert schedule(4000, ()) == pytest.approx(0.5, rel=1e-5)


def test_an_eighth_of_a_cycle() -> None:
    # cos(π/4) = √2/2: 0.1 + 0.9 (1 + 0.70710678) / 2 = 0.86819805
    assert cyclic_cosine(PAPER, steps_per_epoch=10)(5, ()) == pytest.approx(0.86819805, rel=1e-8)


def test_cycle_and_halving_are_independent() -> None:
    training = TrainingConfig(cycle_epochs=2, cycle_floor=0.5, halve_epochs=3)
    schedule = cyclic_cosine(training, steps_per_epoch=4)
    assert [schedule(4 * epoch, ()) for epoch in range(7)] == pytest.approx(
        [1, 0.5, 1, 0.25, 0.5, 0.25, 0.25]
    )


def test_warmup() -> None:
    assert [linear_warmup(step, 4) for step in (1, 2, 3, 4, 5)] == [0.25, 0.5, 0.75, 1, 1]
    assert linear_warmup(1, 0) == 1
    schedule = cyclic_cosine(TrainingConfig(warmup_epochs=0.5, cycle_epochs=1e8), steps_per_epoch=8)
    assert [schedule(step, ()) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_every_schedule_starts_a_step_above_zero() -> None:
    training = TrainingConfig(warmup_epochs=1, decay_to=0.1)
    for name, make in SCHEDULES.items():
        schedule = make(training, 10)
        assert 0 < schedule(0, ()) <= 1
        built = build_schedule(training.model_copy(update={"schedule": name}), 10)
        assert [built(step, ()) for step in range(200)] == [schedule(s, ()) for s in range(200)]


@pytest.mark.parametrize("name", ["cyclic_cosine", "cosine", "exponential", "constant"])
def test_warmup_is_linear_and_its_epochs_and_steps_add_up(name: str) -> None:
    """Half an epoch of 10 steps and 3 steps: 8 in all, the eighth at the full rate."""
    settings = {"warmup_epochs": 0.5, "warmup_steps": 3, "decay_to": 0.01}
    schedule = SCHEDULES[name](TrainingConfig(**settings, cycle_epochs=1e8), 10)  # type: ignore[arg-type]
    rates = [schedule(step, ()) for step in range(8)]
    assert rates == pytest.approx([(step + 1) / 8 for step in range(8)])


def test_the_exponential_is_sjtu_3() -> None:
    """To 5e-4 in 3,000 iterations, then to 5e-7 "at the end of training", each step alike."""
    training = TrainingConfig(epochs=25, learning_rate=5e-4, warmup_steps=3000, decay_to=1e-3)
    schedule = exponential(training, steps_per_epoch=400)
    rates = [5e-4 * schedule(step, ()) for step in range(10_000)]
    assert rates[0] == pytest.approx(5e-4 / 3000)
    assert rates[2999] == rates[3000] == pytest.approx(5e-4)
    assert rates[-1] == pytest.approx(5e-7)
    ratios = [after / before for before, after in pairwise(rates[3000:])]
    assert ratios == pytest.approx([1e-3 ** (1 / 6999)] * 6999)
    assert 5e-4 * schedule(20_000, ()) == pytest.approx(5e-7)  # and it never goes below
    with pytest.raises(EarwitnessError, match="exponential needs decay_to above 0"):
        exponential(TrainingConfig(), 400)


def test_the_cosine_is_sjtu_3() -> None:
    """Retrieval: "the first epoch for warm-up", then half a cosine to nothing."""
    schedule = cosine(RetrievalTrainingConfig(), steps_per_epoch=100)  # 20 epochs
    assert schedule(0, ()) == pytest.approx(0.01)
    assert schedule(99, ()) == schedule(100, ()) == 1
    assert schedule(100 + 1899 // 3, ()) == pytest.approx(0.75)  # cos(π/3) = 1/2
    assert schedule(1999, ()) == pytest.approx(0, abs=1e-12)
    floored = cosine(RetrievalTrainingConfig(decay_to=0.2), 100)
    assert floored(100 + 1899 // 3, ()) == pytest.approx(0.8)
    assert floored(1999, ()) == pytest.approx(0.2)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("waits", [0.5, 1, 2])
def test_the_plateau_is_torchs(parts: int, waits: float) -> None:
    """Each validation's rate, against ReduceLROnPlateau's with the same scores."""
    draw = random.Random(parts + int(2 * waits))
    scores = [round(draw.uniform(0, 1 + n / 30), 1) for n in range(60)]
    parameter = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        torch.optim.SGD([parameter], lr=1.0), "max", 0.3, int(waits * parts), 0.0, min_lr=0.005
    )
    training = RetrievalTrainingConfig(
        schedule="plateau", plateau_factor=0.3, plateau_epochs=waits, decay_to=0.005,
        validations_per_epoch=parts, warmup_epochs=0,
    )  # fmt: skip
    schedule = build_schedule(training, 10)
    for seen, score in enumerate(scores):
        assert schedule(5 * seen, scores[:seen]) == pytest.approx(theirs.get_last_lr()[0])
        theirs.step(score)
    assert theirs.get_last_lr()[0] < 0.1  # it did fall


def test_the_plateau_warms_up() -> None:
    schedule = build_schedule(RetrievalTrainingConfig(schedule="plateau", warmup_epochs=1), 4)
    assert [schedule(step, ()) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


def test_the_constant_is_constant() -> None:
    """Self-critical training, and where the warm-up is all that there is of a schedule."""
    schedule = constant(ScstConfig(), steps_per_epoch=10)
    assert {schedule(step, ()) for step in range(1000)} == {1.0}
    warming = constant(TrainingConfig(epochs=2, warmup_epochs=1), steps_per_epoch=10)
    assert {warming(step, ()) for step in range(9, 20)} == {1.0}

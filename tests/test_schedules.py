"""The paper's schedule against values worked out by hand from its section 4.3."""

from __future__ import annotations

import pytest

from pipeline.config import Training
from pipeline.training.schedules import SCHEDULES, cyclic_cosine, linear_warmup

PAPER = Training(learning_rate=3e-5, cycle_epochs=4, cycle_floor=0.1, halve_epochs=4)


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
    training = Training(cycle_epochs=2, cycle_floor=0.5, halve_epochs=3)
    schedule = cyclic_cosine(training, steps_per_epoch=4)
    assert [schedule(4 * epoch, ()) for epoch in range(7)] == pytest.approx(
        [1, 0.5, 1, 0.25, 0.5, 0.25, 0.25]
    )


def test_warmup() -> None:
    assert [linear_warmup(step, 4) for step in (1, 2, 3, 4, 5)] == [0.25, 0.5, 0.75, 1, 1]
    assert linear_warmup(1, 0) == 1
    schedule = cyclic_cosine(Training(warmup_epochs=0.5, cycle_epochs=1e9), steps_per_epoch=8)
    assert [schedule(step, ()) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_every_schedule_starts_a_step_above_zero() -> None:
    for make in SCHEDULES.values():
        assert 0 < make(Training(warmup_epochs=1), 10)(0, ()) <= 1

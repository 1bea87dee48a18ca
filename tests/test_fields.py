"""Fields on themselves: one that is not read changes nothing, and one that is read does."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from test_decoding import model_of
from torch import nn

from pipeline.config.evaluation import DecodingConfig
from pipeline.config.fields import When, marker
from pipeline.config.params import Params
from pipeline.config.section import Section
from pipeline.config.training import ScheduleName, TrainingConfig
from pipeline.decoding.search import decode
from pipeline.training.optimizers import build_optimizer
from pipeline.training.schedules import build_schedule

# other values than anywhere below, for whatever has a condition
OTHERS: dict[str, Any] = {
    "decay_to": 0.3, "plateau_factor": 0.7, "plateau_epochs": 1, "cycle_epochs": 3,
    "cycle_floor": 0.6, "halve_epochs": 1, "step_epochs": 1, "step_factor": 0.9,
    "beams": 2, "length_penalty": -2.0, "exact_stop": True, "early_stopping": True,
    "temperature": 3.0, "top_p": 0.3,
}  # fmt: skip


def conditions(section: Section, field: str) -> dict[str, bool]:
    """Each field whose reading hangs on ``field``, and whether it is read."""
    marks = {name: marker(info, When) for name, info in type(section).model_fields.items()}
    return {n: mark.read(section) for n, mark in marks.items() if mark and mark.field == field}


@pytest.mark.parametrize("schedule", get_args(ScheduleName))
def test_a_schedule_reads_what_it_says(schedule: ScheduleName) -> None:
    base = TrainingConfig(
        schedule=schedule, epochs=8, decay_to=0.1, plateau_epochs=2, step_epochs=3
    )
    scores = [0.1 if n < 3 else 0.05 for n in range(24)]

    def rates(training: TrainingConfig) -> list[float]:
        schedule = build_schedule(training, 4)
        return [schedule(step, scores[: step * 3 // 4]) for step in range(32)]

    read = conditions(base, "schedule")
    assert len(read) == 8
    for name, is_read in read.items():
        changed = base.model_copy(update={name: OTHERS[name]})
        assert (rates(changed) != rates(base)) is is_read, name


def test_adam_has_no_weight_decay() -> None:
    model = nn.Linear(2, 2)
    for optimizer, is_read in (("adam", False), ("adamw", True)):
        base = TrainingConfig(optimizer=optimizer, weight_decay=0.5)
        assert conditions(base, "optimizer") == {"weight_decay": is_read}
        groups = build_optimizer(model, base).param_groups
        assert any(group["weight_decay"] for group in groups) is is_read


@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
def test_decoding_reads_what_it_says(method: Any) -> None:
    torch.manual_seed(0)
    model, memory = model_of(12, ending=3.0)
    base = DecodingConfig(method=method, beams=4, length_penalty=1.0, max_length=9)
    read = conditions(base, "method")
    assert len(read) == 6
    for name, is_read in read.items():
        found, other = (
            decode(model.stepper(), memory, settings)
            for settings in (base, base.model_copy(update={name: OTHERS[name]}))
        )
        same = found.tokens.shape == other.tokens.shape and found.tokens.equal(other.tokens)
        assert same or is_read, name
        # that it stops early is seen in the steps, and seldom in what is found
        assert not same or not is_read or name.endswith(("_stop", "_stopping")), name


def test_a_field_hangs_on_one_of_its_own_section() -> None:
    params = Params(datasets={}, encoders={})
    sections = [type(getattr(params, name)) for name in Params.model_fields]
    marked = 0
    for section in [s for s in sections if issubclass(s, Section)]:
        for info in section.model_fields.values():
            if (when := marker(info, When)) is not None:
                marked += 1
                assert when.field.split(".")[0] in section.model_fields
                allowed = get_args(section.model_fields[when.field.split(".")[0]].annotation)
                assert {*when.values} <= {*allowed}
    assert marked > 30

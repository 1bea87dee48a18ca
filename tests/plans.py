"""Captioners' plans as planning resolves them, the models of such plans, and encoded features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from pipeline.config.captioners import CaptionerConfig, CaptionerSections
from pipeline.config.hardware import HardwareConfig
from pipeline.config.params import Params
from pipeline.config.plans import CaptionerPlan
from pipeline.config.retrievers import TowerSetupConfig
from pipeline.config.training import TrainingConfig
from pipeline.models.captioners.base import Inputs
from pipeline.planning.lookup import has_frames
from pipeline.tensors import TokenIds
from pipeline.trained.captioner import planned_captioner

CPU = HardwareConfig(device="cpu")
ENTRIES: TypeAdapter[Any] = TypeAdapter(CaptionerConfig)


def captioner_plan(
    entry: dict[str, Any],
    sections: dict[str, Any],
    training: TrainingConfig,
    *,
    name: str = "tiny",
    seed: int = 1,
    hardware: HardwareConfig = CPU,
    tower: TowerSetupConfig | None = None,
) -> CaptionerPlan:
    """The plan of an entry of ``captioners``.

    Args:
        entry: without its ``training``; its dataset is a toy if it names none.
        sections: of params.yaml, by name. tower: what the entry's ``tower`` names.
    """
    captioner = ENTRIES.validate_python({"dataset": "toy", "training": "own", **entry})
    found = captioner.resolve(CaptionerSections(**sections), lambda _: tower)
    return CaptionerPlan(
        name=name,
        inputs={},
        code={},
        seed=seed,
        hardware=hardware,
        dataset=captioner.dataset,
        features=found.features,
        text=found.text,
        sound_dataset=found.sound_dataset,
        model=found.model,
        training=training,
    )


def build(
    plan: CaptionerPlan, widths: Sequence[int], tokens: TokenIds, text_width: int | None = None
) -> Any:
    """The untrained model of a plan."""
    inputs = Inputs(plan.features, tuple(widths), plan.text, text_width)
    return planned_captioner(plan, inputs, tokens)


def rebuild(plan: CaptionerPlan, widths: Sequence[int], model: Any) -> Any:
    """The model that a trained one's weights are loaded into."""
    inputs = Inputs(plan.features, tuple(widths))
    return planned_captioner(plan, inputs, model.tokens, model.configuration)


def encoded_features(params: Params) -> tuple[str, ...]:
    """Features that trained retrievers make of others, by name."""
    frames = (f"{name}/frames" for name in params.encoded if has_frames(params, name))
    sides = (f"{name}/{side}" for name in params.encoded for side in ("sound", "text"))
    return (*frames, *sides)

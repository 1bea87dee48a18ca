"""The folder of a trained model: all that is needed to use it without a network.

It has ``model.safetensors``; ``model.json``, the form, which has what builds the model and the plan
does not say; ``plan.json``; ``curves.csv`` of the training; and a tokenizer, where it uses one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from pipeline.config.plans import Plan
from pipeline.errors import EarwitnessError, one_line
from pipeline.files import read_json, write_atomic, write_json
from pipeline.state_dicts import load_weights, read_weights, save_weights

WEIGHTS, FORM, PLAN, CURVES = "model.safetensors", "model.json", "plan.json", "curves.csv"
STAGES = {"captioner": "train_captioner finetune", "retriever": "train_retriever adapt"}


class TrainedModel(Protocol):
    """A captioner or a retriever."""

    @property
    def model(self) -> nn.Module: ...


P = TypeVar("P", bound=Plan)
T = TypeVar("T", bound=TrainedModel)


def save_trained(
    folder: Path, weights: Mapping[str, Tensor], form: dict[str, Any], plan: Plan, curves: str
) -> None:
    """Writes into an empty folder; the same model gives the same bytes. ``form``: as JSON."""
    save_weights(weights, folder / WEIGHTS)
    write_json(folder / FORM, form)
    plan.save(folder / PLAN)
    write_atomic(folder / CURVES, curves)


def load_trained(
    kind: str, folder: Path, plan_type: type[P], build: Callable[[P, dict[str, Any]], T]
) -> T:
    """What :func:`save_trained` wrote, in evaluation mode.

    Args:
        kind: ``captioner`` or ``retriever``.
        build: makes it from its plan and its form, with any weights.

    Raises:
        EarwitnessError: a file is missing, broken, or of another model or version.
    """
    if not folder.is_dir():
        raise EarwitnessError(f"{folder}: no {kind}; run `dvc repro {STAGES[kind]}`")
    hint = f"delete {folder} and run `dvc repro {STAGES[kind]}`"
    plan, form = plan_type.load(folder / PLAN, hint), read_json(folder / FORM, hint)
    with one_line(folder / FORM, hint, f"not a {kind}'s form"):
        trained = build(plan, form)
    load_weights(trained.model, read_weights(folder / WEIGHTS, hint), str(folder / WEIGHTS))
    trained.model.eval()
    return trained

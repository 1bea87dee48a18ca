"""The folder of a trained model: all that is needed to use it without a network.

It has ``model.safetensors``; ``model.json``, the form, which has what builds the model and the plan
does not say; ``plan.json``; ``curves.csv`` of the training, where there was one; and a tokenizer,
where it uses one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from pipeline.config.plans import Plan
from pipeline.errors import EarwitnessError, one_line
from pipeline.files import read_json, write_atomic, write_json
from pipeline.model_folders import PLAN, seeds_in
from pipeline.state_dicts import load_weights, read_weights, save_weights

WEIGHTS, FORM, CURVES = "model.safetensors", "model.json", "curves.csv"
STAGES = {
    "captioner": "train_captioner finetune",
    "retriever": "make_space train_retriever adapt",
}
FEW = 1 << 20  # numbers: what takes no memory, whatever a form says


class TrainedModel(Protocol):
    """A captioner or a retriever."""

    @property
    def model(self) -> nn.Module: ...


P = TypeVar("P", bound=Plan)
T = TypeVar("T", bound=TrainedModel)


def save_trained(
    folder: Path,
    weights: Mapping[str, Tensor],
    form: dict[str, Any],
    plan: Plan,
    curves: str | None,
) -> None:
    """Writes into an empty folder; the same model gives the same bytes.

    Args:
        form: as JSON. curves: of the training; None where there was none.
    """
    save_weights(weights, folder / WEIGHTS)
    write_json(folder / FORM, form)
    plan.save(folder / PLAN)
    if curves is not None:
        write_atomic(folder / CURVES, curves)


def load_trained(
    kind: str,
    folder: Path,
    load_plan: Callable[[Path, str], P],
    build: Callable[[P, dict[str, Any]], T],
) -> T:
    """What :func:`save_trained` wrote, in evaluation mode.

    Args:
        kind: ``captioner`` or ``retriever``.
        load_plan: of its file, and of a hint; see :meth:`Plan.load`.
        build: makes it from its plan and its form, with any weights.

    Raises:
        EarwitnessError: a file is missing, broken, or of another model or version.
    """
    if not (folder.is_dir() and any(folder.iterdir())):
        there = ", ".join(map(str, seeds_in(folder.parent)))
        others = f", but trained with seed {there}" if there else ""
        raise EarwitnessError(f"{folder}: no {kind}{others}; run `dvc repro {STAGES[kind]}`")
    hint = f"delete {folder} and run `dvc repro {STAGES[kind]}`"
    plan, form = load_plan(folder / PLAN, hint), read_json(folder / FORM, hint)
    tensors = read_weights(folder / WEIGHTS, hint)
    with one_line(folder / FORM, hint, f"not a {kind}'s form"):
        _check_sizes(form, sum(tensor.numel() for tensor in tensors.values()))
        trained = build(plan, form)
    load_weights(trained.model, tensors, str(folder / WEIGHTS))
    trained.model.eval()
    return trained


def check_widths(values: Any, features: Sequence[str]) -> tuple[int, ...]:
    """The widths of ``features`` as a form has them; anything else is a ValueError."""
    widths = tuple(values)
    if not all(type(width) is int and width > 0 for width in widths):
        raise ValueError(f"widths {values}")
    if len(widths) != len(features):
        raise ValueError(f"{len(widths)} widths of {len(features)} features")
    return widths


def _check_sizes(form: Any, weights: int) -> None:
    """Refuses a number that is larger than all of the model, before memory is taken for it.

    A space of a CLAP has no weights but the widths of its sides.
    """
    weights = max(weights, FEW)
    if isinstance(form, dict | list):
        for value in form.values() if isinstance(form, dict) else form:
            _check_sizes(value, weights)
    elif isinstance(form, int | float) and not -weights <= form <= weights:
        raise ValueError(f"a size of {form} in a model of {weights} numbers")

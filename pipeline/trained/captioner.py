"""A trained captioner in a folder: all that is needed to caption with it, and no network.

``model.safetensors`` (what captioning needs: of a twin one branch), ``model.json`` (what the plan
does not say of it: widths, token ids, a pretrained network's configuration),
``plan.json``, ``tokenizer.json`` or ``vocabulary.json``, and ``curves.csv`` of its training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.config.plans import CaptionerPlan
from pipeline.device import resolve_device
from pipeline.errors import EarwitnessError
from pipeline.files import read_json, write_atomic, write_json
from pipeline.models.captioners import build_captioner
from pipeline.models.captioners.base import Captioner, Inputs, Learning, Saved
from pipeline.state_dicts import load_weights, read_weights, save_weights
from pipeline.tensors import TokenIds
from pipeline.text import tokenizer as tokenizers
from pipeline.text.tokenizer import Tokenizer

WEIGHTS, FORM, PLAN, CURVES = "model.safetensors", "model.json", "plan.json", "curves.csv"


@dataclass(frozen=True)
class TrainedCaptioner:
    """A model and what its inputs and outputs mean."""

    plan: CaptionerPlan
    model: Captioner
    tokenizer: Tokenizer
    widths: tuple[int, ...]  # D of each of the E stored features

    def save(self, folder: Path, curves: str) -> None:
        """Writes everything into an empty folder; the same captioner gives the same bytes."""
        form = {
            "widths": list(self.widths),
            "tokens": self.model.tokens._asdict(),
            "configuration": self.model.configuration,
        }
        save_weights(self.model.inference_state_dict(), folder / WEIGHTS)
        write_json(folder / FORM, form)
        self.plan.save(folder / PLAN)
        self.tokenizer.save(folder)
        write_atomic(folder / CURVES, curves)


def planned_captioner(
    plan: CaptionerPlan, inputs: Inputs, tokens: TokenIds, saved: Saved | None = None
) -> Captioner:
    """The model of a plan: to be trained, or in a ``saved`` one's shapes, to be loaded.

    Raises:
        EarwitnessError: sizes that do not fit each other, or pretrained weights not available.
    """
    training = plan.training
    learning = Learning(
        label_smoothing=training.label_smoothing,
        teacher_forcing=training.teacher_forcing,
        seed=plan.seed,
        compiled=plan.hardware.compile != "off",
    )
    try:
        return build_captioner(plan.model, inputs, tokens, learning, saved)
    except EarwitnessError as error:
        raise EarwitnessError(f"captioner {plan.name}: {error}") from None


def load_captioner(folder: Path, device: str | torch.device = "auto") -> TrainedCaptioner:
    """What :meth:`TrainedCaptioner.save` wrote, in evaluation mode on ``device``.

    Raises:
        EarwitnessError: a file is missing, broken, or of another model or version.
    """
    if not folder.is_dir():
        raise EarwitnessError(f"{folder}: no captioner; run `dvc repro train_captioner finetune`")
    hint = f"delete {folder} and run `dvc repro train_captioner finetune`"
    try:
        plan = CaptionerPlan.load(folder / PLAN)
    except EarwitnessError as error:
        raise EarwitnessError(
            f"{folder}: not a captioner of this version; run `dvc repro` ({error})"
        ) from None
    form = read_json(folder / FORM, hint)
    try:
        widths = tuple(form["widths"])
        inputs, tokens = Inputs(plan.features, widths), TokenIds(**form["tokens"])
        model = planned_captioner(plan, inputs, tokens, form["configuration"])
    except (KeyError, TypeError, ValueError) as error:
        raise EarwitnessError(
            f"{folder / FORM}: not a captioner's form ({error}); {hint}"
        ) from None
    load_weights(model, read_weights(folder / WEIGHTS, hint), str(folder / WEIGHTS))
    model.to(resolve_device(device)).eval()
    return TrainedCaptioner(plan, model, tokenizers.load(folder), widths)

"""A trained captioner in a folder: all that is needed to caption with it, and no network.

``model.safetensors`` (what captioning needs: of a twin one branch), ``model.json`` (its form),
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
from pipeline.models.captioners import rebuild_captioner
from pipeline.models.captioners.base import Captioner
from pipeline.state_dicts import load_weights, read_weights, save_weights
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
        form = {"widths": list(self.widths), "model": self.model.form()}
        save_weights(self.model.inference_state_dict(), folder / WEIGHTS)
        write_json(folder / FORM, form)
        self.plan.save(folder / PLAN)
        self.tokenizer.save(folder)
        write_atomic(folder / CURVES, curves)


def load_captioner(folder: Path, device: str | torch.device = "auto") -> TrainedCaptioner:
    """What :meth:`Captioner.save` wrote, in evaluation mode on ``device``.

    Raises:
        EarwitnessError: a file is missing, broken, or of another model.
    """
    if not folder.is_dir():
        raise EarwitnessError(f"{folder}: no captioner; run `dvc repro train_captioner finetune`")
    mend = f"delete {folder} and run `dvc repro train_captioner finetune`"
    plan = CaptionerPlan.load(folder / PLAN)
    form = read_json(folder / FORM, mend)
    try:
        widths = tuple(form["widths"])
        model = rebuild_captioner(plan, widths, form["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise EarwitnessError(
            f"{folder / FORM}: not a captioner's form ({error}); {mend}"
        ) from None
    load_weights(model, read_weights(folder / WEIGHTS, mend), str(folder / WEIGHTS))
    model.to(resolve_device(device)).eval()
    return TrainedCaptioner(plan, model, tokenizers.load(folder), widths)

"""A trained captioner in a folder: all that is needed to caption with it, and no network.

``model.safetensors`` (what captioning needs: of a twin one branch), ``model.json`` (its form),
``plan.json``, ``tokenizer.json``, and ``curves.csv`` of its training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import EarwitnessError
from pipeline.files import read_json, write_atomic, write_json
from pipeline.models import build_captioner
from pipeline.models.bart import Bart
from pipeline.models.edtc import Edtc
from pipeline.plans import CaptionerPlan
from pipeline.text.subword import Tokenizer
from pipeline.training.checkpoints import load_weights, read_weights, save_weights
from pipeline.training.device import resolve_device

WEIGHTS, FORM, PLAN, CURVES = "model.safetensors", "model.json", "plan.json", "curves.csv"


@dataclass(frozen=True)
class Captioner:
    """A model and what its inputs and outputs mean."""

    plan: CaptionerPlan
    model: Edtc  # what build_captioner gives
    tokenizer: Tokenizer
    widths: tuple[int, ...]  # D of each of the E stored features

    def save(self, folder: Path, curves: str) -> None:
        """Writes everything into an empty folder; the same captioner gives the same bytes."""
        form = {"widths": list(self.widths), "bart": self.model.bart.configuration()}
        save_weights(self.model.inference_state_dict(), folder / WEIGHTS)
        write_json(folder / FORM, form)
        self.plan.save(folder / PLAN)
        self.tokenizer.save(folder)
        write_atomic(folder / CURVES, curves)


def load_captioner(folder: Path, device: str = "auto") -> Captioner:
    """What :meth:`Captioner.save` wrote, in evaluation mode on ``device``.

    Raises:
        EarwitnessError: a file is missing, broken, or of another model.
    """
    if not folder.is_dir():
        raise EarwitnessError(f"{folder}: no captioner; run `dvc repro caption@{folder.name}`")
    mend = f"run `dvc repro -f caption@{folder.name}`"
    plan = CaptionerPlan.load(folder / PLAN)
    form = read_json(folder / FORM, mend)
    try:
        widths = tuple(form["widths"])
        bart = Bart.from_configuration(form["bart"])
    except (KeyError, TypeError, ValueError) as error:
        raise EarwitnessError(
            f"{folder / FORM}: not a captioner's form ({error}); {mend}"
        ) from None
    model = build_captioner(plan, widths, None, bart)
    load_weights(model, read_weights(folder / WEIGHTS, mend), str(folder / WEIGHTS))
    model.to(resolve_device(device)).eval()
    return Captioner(plan, model, Tokenizer.load(folder), widths)

"""A trained captioner, and its folder.

Its weights are those that captioning needs, of a twin one branch. Its form has the features'
widths, the token ids and the configuration of a pretrained network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.config.plans import CaptionerPlan
from pipeline.device import resolve_device
from pipeline.errors import EarwitnessError
from pipeline.models.captioners import build_captioner
from pipeline.models.captioners.base import Captioner, Inputs, Learning, Saved
from pipeline.tensors import TokenIds
from pipeline.text import tokenizer as tokenizers
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import Vocabulary
from pipeline.trained.folder import check_widths, load_trained, save_trained


@dataclass(frozen=True)
class TrainedCaptioner:
    """A model and what its inputs and outputs mean."""

    plan: CaptionerPlan
    model: Captioner
    tokenizer: Tokenizer
    widths: tuple[int, ...]  # D of each of the E stored features

    def check_widths(self, widths: Sequence[int], sources: Sequence[object]) -> None:
        """Refuses features of other ``widths``, E, than it was trained on.

        Args:
            sources: E, where each feature is from, for the error message.
        """
        for width, trained, source in zip(widths, self.widths, sources, strict=True):
            if width != trained:
                raise EarwitnessError(
                    f"{source}: {width} wide, but captioner {self.plan.name} was trained on "
                    f"{trained}; extract with the same encoder, or train again"
                )

    def save(self, folder: Path, curves: str) -> None:
        """Writes everything into an empty folder; the same captioner gives the same bytes."""
        form = {
            "widths": list(self.widths),
            "tokens": self.model.tokens._asdict(),
            "configuration": self.model.configuration,
        }
        save_trained(folder, self.model.inference_state_dict(), form, self.plan, curves)
        self.tokenizer.save(folder)


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


def check_tokens(tokenizer: Tokenizer, tokens: TokenIds) -> None:
    """Refuses a tokenizer that is not the one that a model was trained with.

    A pretrained network may have more tokens than its tokenizer; it never generates those.
    """
    special = (tokenizer.begin, tokenizer.pad, tokenizer.end)
    words = isinstance(tokenizer, Vocabulary) and tokenizer.size < tokens.size
    if words or tokenizer.size > tokens.size or special != tokens[1:]:
        raise ValueError(f"the model has {tokens}, its tokenizer {tokenizer.size} tokens")


def load_captioner(folder: Path, device: str | torch.device = "auto") -> TrainedCaptioner:
    """What :meth:`TrainedCaptioner.save` wrote, in evaluation mode on ``device``.

    Raises:
        EarwitnessError: a file is missing, broken, or of another model or version.
    """

    def build(plan: CaptionerPlan, form: dict[str, Any]) -> TrainedCaptioner:
        tokenizer, tokens = tokenizers.load(folder), TokenIds(**form["tokens"])
        check_tokens(tokenizer, tokens)
        widths = check_widths(form["widths"], plan.features)
        inputs = Inputs(plan.features, widths)
        model = planned_captioner(plan, inputs, tokens, form["configuration"])
        model.to(resolve_device(device))
        return TrainedCaptioner(plan, model, tokenizer, widths)

    return load_trained("captioner", folder, CaptionerPlan.load, build)

"""Captioners, one architecture a file; each is imported when it is built, as imports are slow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import EarwitnessError

if TYPE_CHECKING:
    from pipeline.config.captioners import CaptionerModel
    from pipeline.models.captioners.base import Captioner, Inputs, Learning, Saved
    from pipeline.tensors import TokenIds


def build_captioner(
    settings: CaptionerModel,
    inputs: Inputs,
    tokens: TokenIds,
    learning: Learning,
    saved: Saved | None = None,
) -> Captioner:
    """The captioner of these settings; see :class:`Captioner`.

    Raises:
        EarwitnessError: sizes do not fit each other, or pretrained weights are not available.
    """
    if len(inputs.widths) != len(inputs.names):
        raise EarwitnessError(
            f"{len(inputs.widths)} stored features, but the plan names {len(inputs.names)} "
            f"({', '.join(inputs.names)}); run `dvc repro plan`"
        )
    match settings.architecture:
        case "edtc":
            from pipeline.models.captioners.edtc import Edtc

            return Edtc(settings, inputs, tokens, learning, saved)
        case "seq2seq":
            from pipeline.models.captioners.seq2seq import Seq2Seq

            return Seq2Seq(settings, inputs, tokens, learning, saved)
        case "cmu":
            from pipeline.models.captioners.cmu import Cmu

            return Cmu(settings, inputs, tokens, learning, saved)
        case "rlssr":
            from pipeline.models.captioners.rlssr import Rlssr

            return Rlssr(settings, inputs, tokens, learning, saved)
        case "prefix":
            from pipeline.models.captioners.prefix import Prefix

            return Prefix(settings, inputs, tokens, learning, saved)

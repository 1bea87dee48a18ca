"""Architectures, one a file; :data:`CAPTIONERS` names those that a plan can ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import EarwitnessError

if (
    TYPE_CHECKING
):  # BART brings transformers along: seconds that pipeline.models.batch must not cost
    from pipeline.models.bart import Bart
    from pipeline.models.edtc import Edtc
    from pipeline.plans import CaptionerPlan


def _edtc(plan: CaptionerPlan, widths: Sequence[int], text_width: int | None, bart: Bart) -> Edtc:
    from pipeline.models.edtc import Edtc

    return Edtc(plan, widths, text_width, bart)


CAPTIONERS: dict[str, Callable[..., Edtc]] = {"edtc": _edtc}


def build_captioner(
    plan: CaptionerPlan, widths: Sequence[int], text_width: int | None, bart: Bart
) -> Edtc:
    """The captioner that ``plan`` describes, with random weights around ``bart``.

    Args:
        widths: W of each of the plan's E stored features.
        text_width: W of the stored text features; None for one that is not to be trained.
        bart: the text decoder.

    Raises:
        EarwitnessError: an unknown architecture, or sizes that do not fit each other.
    """
    if plan.architecture not in CAPTIONERS:
        known = ", ".join(CAPTIONERS)
        raise EarwitnessError(f"{plan.name}: no architecture '{plan.architecture}'; known: {known}")
    return CAPTIONERS[plan.architecture](plan, widths, text_width, bart)

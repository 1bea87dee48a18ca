"""Architectures, one a file; :data:`CAPTIONERS` names those that a plan can ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import EarwitnessError

if TYPE_CHECKING:  # BART brings transformers along: seconds that models.batch must not cost
    from pipeline.config.plans import CaptionerPlan
    from pipeline.models.captioners.base import Captioner
from pipeline.tensors import TokenIds


def _edtc() -> type[Captioner]:
    from pipeline.models.captioners.edtc import Edtc

    return Edtc


def _seq2seq() -> type[Captioner]:
    from pipeline.models.captioners.seq2seq import Seq2Seq

    return Seq2Seq


def _rlssr() -> type[Captioner]:
    from pipeline.models.captioners.rlssr import Rlssr

    return Rlssr


def _bart() -> type[Captioner]:
    from pipeline.models.captioners.cmu import Cmu

    return Cmu


def _prefix() -> type[Captioner]:
    from pipeline.models.captioners.prefix import Prefix

    return Prefix


CAPTIONERS: dict[str, Callable[[], type[Captioner]]] = {
    "edtc": _edtc,
    "seq2seq": _seq2seq,
    "bart": _bart,
    "rlssr": _rlssr,
    "prefix": _prefix,
}


def build_captioner(
    plan: CaptionerPlan, widths: Sequence[int], text_width: int | None, tokens: TokenIds
) -> Captioner:
    """The untrained captioner that ``plan`` describes; see :meth:`Captioner.from_plan`."""
    return _architecture(plan).from_plan(plan, widths, text_width, tokens)


def rebuild_captioner(
    plan: CaptionerPlan, widths: Sequence[int], form: dict[str, Any]
) -> Captioner:
    """The captioner of a saved form, with random weights; see :meth:`Captioner.from_form`."""
    return _architecture(plan).from_form(plan, widths, form)


def _architecture(plan: CaptionerPlan) -> type[Captioner]:
    if plan.architecture not in CAPTIONERS:
        known = ", ".join(CAPTIONERS)
        raise EarwitnessError(f"{plan.name}: no architecture '{plan.architecture}'; known: {known}")
    return CAPTIONERS[plan.architecture]()

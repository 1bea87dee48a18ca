"""Resolves ``params.yaml`` into one plan a job; see pipeline/config/plans.py for what a plan is.

Light: no model library is imported here, so that planning costs a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.config.plans import Plan
from pipeline.planning.captioners import captioner_plans, finetuning_plans
from pipeline.planning.context import Context
from pipeline.planning.features import extraction_plans, tagging_plans
from pipeline.planning.retrievers import adapted_plans, encoding_plans, retriever_plans
from pipeline.planning.systems import system_plans

Make = Callable[[Context], dict[str, Plan]]


def _with_files(make: Make) -> Make:
    """Every plan depends on the files that its settings name, whichever kind of plan it is."""

    def made(context: Context) -> dict[str, Plan]:
        return {name: context.with_files(plan) for name, plan in make(context).items()}

    return made


# in their order: each reads what the jobs of those before it made
PHASES: Mapping[str, Make] = {
    "tagging": _with_files(tagging_plans),
    "extraction": _with_files(extraction_plans),
    "retrievers": _with_files(retriever_plans),
    "adapted": _with_files(adapted_plans),
    "encoding": _with_files(encoding_plans),
    "captioners": _with_files(captioner_plans),
    "finetuned": _with_files(finetuning_plans),
    "systems": _with_files(system_plans),
}

__all__ = ["PHASES", "Context"]

"""Resolves ``params.yaml`` into one plan a job; see pipeline/config/plans.py for what a plan is.

Light: no model library is imported here, so that planning costs a second.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.config.plans import Plan
from pipeline.planning.captioners import captioner_plans
from pipeline.planning.context import Context
from pipeline.planning.features import extraction_plans, tagging_plans
from pipeline.planning.retrievers import retriever_plans
from pipeline.planning.systems import system_plans

# in their order: each reads what the jobs of those before it made
PHASES: dict[str, Callable[[Context], dict[str, Plan]]] = {
    "tagging": tagging_plans,
    "extraction": extraction_plans,
    "retrievers": retriever_plans,
    "captioners": captioner_plans,
    "systems": system_plans,
}

__all__ = ["PHASES", "Context"]

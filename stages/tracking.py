"""Which tracker trainings write to: the one thing beside its plan that a stage asks params.yaml.

It is no part of any plan, and its code of no digest (pipeline/planning/code.py), so that switching
it on trains nothing again.
"""

from __future__ import annotations

from pipeline.config.params import load_params
from pipeline.tracking.registry import Tracking
from stages import paths


def tracking() -> Tracking | None:
    """By ``tracking`` of params.yaml; None: none, or no such file, as a plan is enough to train."""
    tracker = load_params(paths.PARAMS).tracking if paths.PARAMS.is_file() else "none"
    return None if tracker == "none" else Tracking(tracker, paths.TRACKING)

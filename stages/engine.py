"""On what stages compute: beside the tracker, what a stage asks params.yaml and not its plan.

It is no part of any plan, and its code of no digest (pipeline/planning/code.py), so that another
engine makes nothing anew.
"""

from __future__ import annotations

from pipeline.config.engine import RayConfig
from pipeline.config.params import load_params
from stages import paths


def asked_cluster() -> RayConfig | None:
    """Section ``ray`` of params.yaml where ``engine`` is ray. None: this process computes, as it
    does where there is no such file, as a plan is enough.
    """
    if not paths.PARAMS.is_file():
        return None
    params = load_params(paths.PARAMS)
    return params.ray if params.engine == "ray" else None

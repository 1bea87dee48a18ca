"""On what stages compute: beside the tracker, what a stage asks params.yaml and not its plan.

It is no part of any plan, and its code of no digest (pipeline/planning/code.py), so that another
engine makes nothing anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.config.engine import RayConfig
from pipeline.config.hardware import DeviceConfig
from pipeline.config.params import load_params
from stages import paths

if TYPE_CHECKING:  # it loads torch
    from pipeline.engine.steps import Engine


def asked_cluster() -> RayConfig | None:
    """Section ``ray`` of params.yaml where ``engine`` is ray. None: this process computes, as it
    does where there is no such file, as a plan is enough.
    """
    if not paths.PARAMS.is_file():
        return None
    params = load_params(paths.PARAMS)
    return params.ray if params.engine == "ray" else None


@contextmanager
def engine_of(hardware: DeviceConfig) -> Iterator[Engine]:
    """What does a job's steps, by params.yaml; it sets this process's threads too.

    Raises:
        EarwitnessError: no such device, or the cluster does not answer or has no room.
    """
    from pipeline.device import set_up

    cluster = asked_cluster()
    if cluster is None:
        from pipeline.engine.local import LocalEngine

        yield LocalEngine(set_up(hardware.device, hardware.threads))
        return
    from pipeline.engine.cluster import connected
    from pipeline.engine.remote import ray_engine

    set_up("cpu", hardware.threads)
    with connected(cluster) as connection, ray_engine(connection, hardware) as used:
        yield used

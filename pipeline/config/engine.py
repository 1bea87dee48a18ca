"""Section ``ray``: the cluster on which stages compute, where ``engine`` is ray.

No part of any plan: where something is computed changes no result.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.config.section import Section

Share = Annotated[float, Field(gt=0, le=4096)]


class RayConfig(Section):
    """Which cluster, and what a worker reserves of it."""

    # local: one of this machine, for the job; auto: the one that runs here; HOST:PORT; ray://…
    address: str = "local"
    workers: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = "auto"  # auto: all it has
    cpus: Share | Literal["auto"] = "auto"  # cores of a worker; auto: as many as its threads
    # GPUs of a worker, 0.5: two share one; auto: 1 where there are any; 0: none
    gpus: Annotated[float, Field(ge=0, le=64)] | Literal["auto"] = "auto"
    # of work whose worker ended; work of a lost node is always repeated
    retries: Annotated[int, Field(ge=0, le=1000)] = 3

    @field_validator("address")
    @classmethod
    def _place(cls, address: str) -> str:
        if address not in ("local", "auto") and not re.fullmatch(
            r"(ray://)?[^\s:/@]+:[0-9]{1,5}", address
        ):
            raise ValueError("give local, auto, HOST:PORT or ray://HOST:PORT")
        return address

    @field_validator("gpus")
    @classmethod
    def _fraction(cls, gpus: float | Literal["auto"]) -> float | Literal["auto"]:
        if isinstance(gpus, float) and gpus > 1 and not gpus.is_integer():
            raise ValueError("give a fraction below 1, or a whole number")
        return gpus

"""Section ``hardware``: on what, and in what precision, every job computes."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from pipeline.config.section import Section


class DeviceConfig(Section):
    """What every job that computes needs to know."""

    device: str = "auto"  # auto: CUDA where there is one, else the CPU; or a torch device's name
    threads: int | Literal["auto"] = "auto"  # of each job, on the CPU; auto: its part of the cores

    @field_validator("threads", mode="before")
    @classmethod
    def _whole(cls, threads: object) -> object:
        if threads != "auto" and (type(threads) is not int or not 1 <= threads <= 4096):
            raise ValueError("give auto, or a whole number of at least 1 and at most 4096")
        return threads


class HardwareConfig(DeviceConfig):
    """And what training needs; what it trained keeps to the same precision."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bf16 on CUDA
    # torch.compile; auto: on CUDA, of TRANSLATOR's loops alone; on: of whole training steps too
    compile: Literal["auto", "on", "off"] = "auto"
    processes: int | Literal["auto"] = 1  # that train a model together; auto: one a GPU

    @field_validator("processes", mode="before")
    @classmethod
    def _count(cls, processes: object) -> object:
        if processes != "auto" and (type(processes) is not int or not 1 <= processes <= 1024):
            raise ValueError("give auto, or a whole number of at least 1 and at most 1024")
        return processes

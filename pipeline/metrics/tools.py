"""What scoring needs beside captions: a Java, SPICE's folder, a device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.metrics.java import installed_java
from pipeline.metrics.spice_install import ready


@dataclass(frozen=True)
class Tools:
    """``java``, ``spice``: None where there is none; the scores that need it are left out."""

    java: Path | None
    spice: Path | None  # a folder that pipeline.metrics.spice_install has filled
    spice_cache: Path | None = None  # parses of captions, kept for the next run
    java_seconds: float = 3600.0  # for one program
    device: str = "cpu"


def find_tools(spice: Path | None, spice_cache: Path | None = None, device: str = "auto") -> Tools:
    """The installed Java, SPICE where ``spice`` is complete, and the device of that name."""
    from pipeline.device import resolve_device

    found = str(resolve_device(device))
    there = spice if spice is not None and ready(spice) else None
    return Tools(installed_java(), there, spice_cache, device=found)

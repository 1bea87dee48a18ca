"""What scoring needs beside captions: a Java, SPICE's folder, a device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.metrics.java import installed_java


@dataclass(frozen=True)
class Tools:
    """``java`` None: none was found. What is not there is left out by name, not an error."""

    java: Path | None
    spice: Path  # as pipeline.metrics.spice_install fills it
    spice_cache: Path | None = None  # parses of captions, kept for the next run
    java_seconds: float = 3600.0  # for one program
    device: str = "cpu"


def find_tools(spice: Path, spice_cache: Path | None = None) -> Tools:
    """The installed Java, and a GPU where there is one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Tools(installed_java(), spice, spice_cache, device=device)

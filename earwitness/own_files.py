"""The files that a person gives a recipe on the command line, as ``params.yaml`` names them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import EarwitnessError
from pipeline.weights import Weights


class OwnFiles(NamedTuple):
    """What stands in the place of what a recipe says."""

    root: str | None = None  # of the first dataset; None: as its recipe says
    # by the name of an entry, or of an encoder's recipe, which puts it in every place
    weights: Mapping[str, str] = {}


def own_files(root: Path | None, weights: Sequence[str], repository: Path) -> OwnFiles:
    """What ``--root`` and ``--weights`` say.

    Args:
        weights: each ``ENCODER=PATH``.
        repository: its root, which paths in ``params.yaml`` are from.

    Raises:
        EarwitnessError: weights in another form, or given twice for one encoder.
    """
    places: dict[str, str] = {}
    for text in weights:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise EarwitnessError(f"--weights {text}: give ENCODER=PATH, such as yamnet=a.tflite")
        if name in places:
            raise EarwitnessError(f"--weights {name}: given twice; give it once")
        places[name] = _weights(path, repository)
    return OwnFiles(None if root is None else _path(root, repository), places)


def _path(path: str | Path, repository: Path) -> str:
    """From the repository where it is in it, else absolute."""
    whole = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 (links stay)
    return str(whole.relative_to(repository) if whole.is_relative_to(repository) else whole)


def _weights(text: str, repository: Path) -> str:
    """They may also be on a hub or in a package."""
    try:
        weights = Weights.parse(text)
    except ValueError:  # one word alone
        weights = Weights("path", text)
    if weights.kind != "path":
        return text
    path = _path(weights.name, repository)
    return path if re.search(r"\W", path.partition(":")[0]) else f"./{path}"

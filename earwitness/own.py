"""What a person gives a recipe on the command line, as ``params.yaml`` says it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import EarwitnessError
from pipeline.storage.urls import is_url
from pipeline.weights import Weights
from pipeline.yaml_files import parse_yaml


class Own(NamedTuple):
    """What stands in the place of what a recipe says."""

    root: str | None = None  # of the first dataset; None: as its recipe says
    # by the name of an entry, or of an encoder's recipe, which puts it in every place
    weights: Mapping[str, str] = {}
    labels: str | None = None  # the names of taggers' classes; None: as their recipe says
    settings: Mapping[str, Any] = {}  # dotted, such as training.edtc.epochs
    blind: str | None = None  # a folder of recordings without captions: one more test set
    queries: str | None = None  # its table of queries, below it


def given(
    root: Path | str | None,
    weights: Sequence[str],
    labels: Path | None,
    settings: Sequence[str],
    repository: Path,
    blind: Path | None = None,
    queries: Path | None = None,
) -> Own:
    """What ``--root``, ``--weights``, ``--labels``, ``--set``, ``--blind`` and ``--queries`` say.

    Args:
        root: a folder, or an address as text; see pipeline/storage/urls.py.
        weights: each ``ENCODER=PATH``.
        settings: each ``SETTING=VALUE``, the value as in YAML.
        repository: its root, which paths in ``params.yaml`` are from.
        blind, queries: a blind test set's folder, and its table of queries, below it.

    Raises:
        EarwitnessError: one of them in another form, or given twice; or there is no blind set.
    """
    places = _pairs("--weights", weights, "ENCODER=PATH, such as yamnet=a.tflite")
    values = _pairs("--set", settings, "SETTING=VALUE, such as training.edtc.epochs=20")
    hint = "correct the value"
    return Own(
        None if root is None else _root(root, repository),
        {name: _weights(path, repository) for name, path in places.items()},
        None if labels is None else _path(labels, repository),
        {name: parse_yaml(text, f"--set {name}", hint) for name, text in values.items()},
        *_blind(blind, queries, repository),
    )


def _blind(
    folder: Path | None, queries: Path | None, repository: Path
) -> tuple[str | None, str | None]:
    if folder is None:
        if queries is not None:
            raise EarwitnessError("--queries is of a blind test set; give its folder by --blind")
        return None, None
    if not folder.is_dir():
        raise EarwitnessError(f"--blind {folder}: no such folder; give that of its recordings")
    if queries is None:
        return _path(folder, repository), None
    if not (queries.is_file() and queries.resolve().is_relative_to(folder.resolve())):
        raise EarwitnessError(f"--queries {queries}: no file below {folder}; put it there")
    below = queries.resolve().relative_to(folder.resolve())
    return _path(folder, repository), str(below)


def _pairs(option: str, texts: Sequence[str], form: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value):
            raise EarwitnessError(f"{option} {text}: give {form}")
        if name in pairs:
            raise EarwitnessError(f"{option} {name}: given twice; give it once")
        pairs[name] = value
    return pairs


def _root(root: Path | str, repository: Path) -> str:
    return str(root) if is_url(str(root)) else _path(root, repository)


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

"""What a trained model was trained on, in words; and a warning where that was no real sound."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from earwitness.repository import Repository
from pipeline.config.params import Params
from pipeline.config.plans import CaptionerPlan
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError, SyntheticSoundWarning
from pipeline.files import read_json
from pipeline.model_folders import PLAN

PACKAGE = str(Path(__file__).parent)
FOR_CAPTIONS = "for one that does: earwitness recipe listen && dvc repro"
FOR_SEARCH = f"{FOR_CAPTIONS}, or earwitness search --model laion/clap-htsat-unfused"


def sound_of(plan: CaptionerPlan, repository: Repository) -> list[str]:
    """The datasets whose sound a captioner knows: its own, and its retrievers'."""
    found = [plan.sound_dataset or plan.dataset]
    for feature in plan.features:
        retriever, _, part = feature.partition("/")
        if part:
            found += datasets_of(repository.encoder(retriever))
    return [*dict.fromkeys(found)]


def datasets_of(model: Path) -> list[str]:
    """The datasets that the model in a folder was trained on, as its plan says; none without one,
    or where nothing was trained.
    """
    try:
        plan = read_json(model / PLAN, "")
    except EarwitnessError:
        return []
    return datasets_in(plan) if isinstance(plan, dict) else []


def datasets_in(plan: Mapping[str, Any]) -> list[str]:
    """As :func:`datasets_of`, of a plan."""
    named = [*plan.get("datasets", ()), plan.get("sound_dataset") or plan.get("dataset")]
    return [name for name in named if isinstance(name, str)]


def in_words(datasets: Iterable[str], params: Params, repository: Repository) -> str:
    """``soundscapes (28 kinds of synthetic sound), clotho``; empty where there are none."""
    words = []
    for name in datasets:
        about = f" ({_kinds(name, repository)})" if is_synthetic(name, params, repository) else ""
        words.append(f"{name}{about}")
    return ", ".join(words)


def is_synthetic(dataset: str, params: Params, repository: Repository) -> bool:
    """Whether a dataset's sound is made by a program; False where nothing is known of it."""
    if dataset in params.datasets:
        return params.datasets[dataset].synthetic
    manifest = _manifest(dataset, repository)
    return manifest is not None and manifest.synthetic


def warn_if_synthetic(
    system: str, datasets: Iterable[str], params: Params, repository: Repository, instead: str
) -> None:
    """Warns of a system that was trained on synthetic sound alone.

    Args:
        datasets: whose sound its models know.
        instead: how to get another.
    """
    names = [*dict.fromkeys(datasets)]
    if names and all(is_synthetic(name, params, repository) for name in names):
        warnings.warn(
            f"{system} was trained on {in_words(names, params, repository)} and does not know real "
            f"sound; {instead}",
            SyntheticSoundWarning,
            stacklevel=_levels(),
        )


def _levels() -> int:
    """How many calls above :func:`warn_if_synthetic` the caller of this package is."""
    frame, levels = sys._getframe(1), 1
    while frame.f_back and frame.f_code.co_filename.startswith(PACKAGE):
        frame, levels = frame.f_back, levels + 1
    return levels


def _kinds(dataset: str, repository: Repository) -> str:
    manifest = _manifest(dataset, repository)
    kinds = {event for clip in manifest.clips for event in clip.events} if manifest else set()
    return f"{len(kinds)} kinds of synthetic sound" if kinds else "synthetic sound"


def _manifest(dataset: str, repository: Repository) -> Manifest | None:
    try:
        return Manifest.load(repository.data / "corpora" / f"{dataset}.json")
    except EarwitnessError:
        return None

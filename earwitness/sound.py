"""Any sound files, heard as a dataset's were: by the same frozen encoders and code."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import audio
from pipeline.config.plans import ExtractionPlan
from pipeline.encoders.registry import build_sound_encoder
from pipeline.errors import EarwitnessError
from pipeline.features.extraction import encode_files

Entries = list[NDArray[np.float16]]


def decodable(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files that can be decoded, and the reasons of those that cannot, a line each."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        problems = [*pool.map(_problem, files)]
    sound = [path for path, problem in zip(files, problems, strict=True) if problem is None]
    return sound, [problem for problem in problems if problem is not None]


def _problem(path: Path) -> str | None:
    try:
        audio.verify(path)
    except EarwitnessError as error:
        return str(error)
    return None


def listener(dataset: str, encoder: str, data: Path) -> Callable[[Sequence[Path]], Entries]:
    """The frozen encoder as it was run on ``dataset``: decodable files → (T, D) of each.

    Args:
        data: the repository's data folder, with the plan of the dataset's extraction.

    Raises:
        EarwitnessError: no such plan, or its weights are not to be had.
    """
    plan = ExtractionPlan.load(data / "plans" / "extraction" / f"{dataset}-{encoder}.json")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    built = build_sound_encoder(plan.encoder, Path(plan.weights) if plan.weights else None, device)
    seconds = plan.encoder.window_seconds, plan.encoder.batch_seconds
    return lambda files: encode_files(files, built, *seconds)


def encode(sound: Sequence[Path], dataset: str, encoder: str, data: Path) -> Entries:
    """(T, D) of each decodable file; see :func:`listener`."""
    return listener(dataset, encoder, data)(sound)

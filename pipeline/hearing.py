"""Any sound files, heard as a dataset's were: by the same frozen encoders and code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import audio
from pipeline.encoders import build_sound_encoder
from pipeline.errors import EarwitnessError
from pipeline.features.extraction import encode_files
from pipeline.plans import ExtractionPlan


def decodable(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files that can be decoded, and the reasons of those that cannot, a line each."""
    sound, failed = [], []
    for path in files:
        try:
            audio.verify(path)
            sound.append(path)
        except EarwitnessError as error:
            failed.append(str(error))
    return sound, failed


def encode(
    sound: Sequence[Path], dataset: str, encoder: str, data: Path
) -> list[NDArray[np.float16]]:
    """(T, D) of each file, by the frozen encoder as it was run on ``dataset``.

    Args:
        sound: decodable files.
        data: the repository's data folder, with the plan of the dataset's extraction.
    """
    plan = ExtractionPlan.load(data / "plans" / "extraction" / f"{dataset}-{encoder}.json")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    built = build_sound_encoder(plan.encoder, Path(plan.weights) if plan.weights else None, device)
    return encode_files(sound, built, plan.encoder.window_seconds, plan.encoder.batch_seconds)

"""Captions of any sound files by a trained system: ``earwitness caption FILE…``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import audio
from pipeline.config import Decoding, load_params, nearest, only_captioner
from pipeline.decoding.predict import predict
from pipeline.encoders import build_sound_encoder
from pipeline.errors import EarwitnessError
from pipeline.features.extraction import encode_files
from pipeline.models.batch import Padded
from pipeline.plans import ExtractionPlan
from pipeline.training.bundle import Captioner, load_captioner


def caption_files(
    files: Sequence[Path], system: str | None, params: Path, data: Path
) -> tuple[list[tuple[Path, str]], list[str]]:
    """Captions of the files that can be decoded, and the reasons of those that cannot.

    Args:
        system: of ``params.yaml``; None takes its only or first one.
        params: ``params.yaml``. data: the repository's data folder.

    Raises:
        EarwitnessError: no such system, or it is not trained yet.
    """
    settings = load_params(params)
    if not settings.systems:
        raise EarwitnessError(f"{params}: systems is empty; add one and run `dvc repro`")
    name = system or next(iter(settings.systems))
    if name not in settings.systems:
        raise EarwitnessError(f"no system '{name}'{nearest(name, settings.systems)}")
    member = only_captioner(name, settings.systems[name].captioners)
    captioner = load_captioner(data / "models" / "captioners" / member)
    sound, failed = _decodable(files)
    if not sound:
        return [], failed
    features = {
        encoder: _encode(sound, captioner.plan.dataset, encoder, data)
        for encoder in dict.fromkeys(captioner.plan.features)
    }
    return list(zip(sound, _captions(captioner, features, settings.decoding), strict=True)), failed


def _decodable(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    sound, failed = [], []
    for path in files:
        try:
            audio.verify(path)
            sound.append(path)
        except EarwitnessError as error:
            failed.append(str(error))
    return sound, failed


def _encode(
    sound: Sequence[Path], dataset: str, encoder: str, data: Path
) -> list[NDArray[np.float16]]:
    """(T, D) of each file, by the same frozen encoder and code as the captioner's training set."""
    plan = ExtractionPlan.load(data / "plans" / "extraction" / f"{dataset}-{encoder}.json")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    built = build_sound_encoder(plan.encoder, Path(plan.weights) if plan.weights else None, device)
    return encode_files(sound, built, plan.encoder.window_seconds, plan.encoder.batch_seconds)


def _captions(
    captioner: Captioner, features: dict[str, list[NDArray[np.float16]]], decoding: Decoding
) -> list[str]:
    device = next(captioner.model.parameters()).device
    clips = len(next(iter(features.values())))
    batches = (
        tuple(
            _padded(features[encoder][at : at + decoding.batch]).to(device)
            for encoder in captioner.plan.features
        )
        for at in range(0, clips, decoding.batch)
    )
    return [c.text for batch in predict(captioner, batches, decoding) for c in batch]


def _padded(entries: Sequence[NDArray[np.float16]]) -> Padded:
    """(B, T, D) float32 of (T, D) entries."""
    values = [torch.from_numpy(entry).float() for entry in entries]
    lengths = torch.tensor([len(entry) for entry in entries])
    return Padded(torch.nn.utils.rnn.pad_sequence(values, batch_first=True), lengths)

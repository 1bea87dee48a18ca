"""A repository of tones, and retrievers that know high from low, with weights that are set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import DTypeLike
from tiny_retrievers import save_retriever

from pipeline.config.encoders import LogmelEncoderConfig
from pipeline.config.plans import ExtractionPlan
from pipeline.encoders.base import Packed, TextEncoder
from pipeline.state_dicts import read_weights, save_weights

RATE = 16000
PITCHES = {"a": 300.0, "b": 3000.0, "c": 900.0, "d": 6000.0, "e": 1600.0}
MELS = 32
PARAMS = """
datasets: {toy: {layout: clotho, root: toy}}
encoders: {logmel: {module: logmel}}
text_encoders: {words: {module: sentence, weights: "package:none"}}
retrievers:
  pitch: {datasets: [toy], sound: [logmel], text: words}
  other: {datasets: [toy], sound: [logmel], text: words}
  far: {datasets: [toy], sound: [logmel], text: words}
retrieval_systems:
  one: {retrievers: [pitch]}
  both: {retrievers: [pitch, other]}
  mixed: {retrievers: [pitch, far]}
"""


class Words(TextEncoder):
    """Says of each word whether it is high, or the opposite, in two values a token."""

    width = 2

    def encode(self, captions: Sequence[str], dtype: DTypeLike = np.float32) -> Packed:
        tokens = [[1 - 2 * (word == "low") for word in caption.split()] for caption in captions]
        values = np.array([[sign, -sign] for row in tokens for sign in row], dtype=dtype)
        return Packed(values, np.array([len(row) for row in tokens]))


def make_tones(root: Path) -> None:
    """Tones in folders, and three retrievers; ``pitch`` prefers a high or a low centroid."""
    (root / "params.yaml").write_text(PARAMS)
    (root / "dvc.yaml").write_text("stages: {}\n")
    for number, (name, pitch) in enumerate(PITCHES.items()):
        folder = root / "sounds" / ("inner" if number % 2 else "")
        folder.mkdir(parents=True, exist_ok=True)
        time = np.arange(int(RATE * (0.5 + 0.3 * number))) / RATE
        noise = 0.001 * np.random.default_rng(number).normal(size=len(time))
        tone = 0.3 * np.sin(2 * np.pi * pitch * time) + noise
        soundfile.write(folder / f"{name}.{'flac' if number == 2 else 'wav'}", tone, RATE)
    encoder = LogmelEncoderConfig(
        module="logmel", sample_rate=RATE, n_fft=512, hop=160, mels=MELS, fmax=8000.0
    )
    plan = ExtractionPlan(
        name="logmel", inputs={}, code={}, dataset="toy", encoder=encoder,
        spec_augment=None, weights=None,
    )  # fmt: skip
    plan.save(root / "data/plans/extraction/toy-logmel.json")
    for name in ("pitch", "other"):
        save_retriever(root, name, ["logmel"], [MELS], Words.width, 8)
    apart = {"loss": "exp_distance", "similarity": "dot", "shared": 3}
    save_retriever(root, "far", ["logmel"], [MELS], Words.width, 8, **apart)
    file = root / "data/models/retrievers/pitch/1/model.safetensors"
    weights = {name: torch.zeros_like(value) for name, value in read_weights(file, "").items()}
    weights["sound_projection.weight"][0] = torch.linspace(-1, 1, MELS)  # high less low
    weights["sound_projection.bias"][1] = 5.0  # so that the cosine tells how much
    weights["text_projection.weight"][0, 0] = 1.0
    save_weights(weights, file)

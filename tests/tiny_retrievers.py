"""Retrievers of frozen features, with weights that are set and not trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config.encoders import SentenceEncoderConfig
from pipeline.config.plans import RetrieverPlan
from pipeline.config.retrievers import BiEncoderConfig
from pipeline.config.sides import StoredSoundSide, StoredTextSide
from pipeline.config.training import RetrievalTrainingConfig
from pipeline.features.store import Header, write_store
from pipeline.trained.readers import new_text
from pipeline.trained.retriever import build_retriever


def save_retriever(
    root: Path,
    name: str,
    features: Sequence[str],
    widths: Sequence[int],
    text: int,
    width: int,
    seed: int = 1,
    **biencoder: Any,
) -> None:
    """Into ``root/data/models/retrievers/<name>/<seed>``; its weights follow from both.

    Args:
        widths: W of each feature. text: W of the text features ``words``. width: D, less a shared
            layer's.
    """
    plan = RetrieverPlan(
        name=name,
        inputs={},
        code={},
        datasets=("toy",),
        sound=StoredSoundSide(features=tuple(features)),
        text=StoredTextSide(
            features=("words",),
            encoder=SentenceEncoderConfig(module="sentence", weights="package:none"),
        ),
        biencoder=BiEncoderConfig(width=width, **biencoder),
        training=RetrievalTrainingConfig(),
        start=None,
    )
    torch.manual_seed(sum(name.encode()) + seed - 1)
    cpu = torch.device("cpu")
    read = new_text(plan, [], (text,), cpu)
    retriever = build_retriever(plan, tuple(widths), read, cpu, pretrained=True)
    folder = root / "data/models/retrievers" / name / str(seed)
    folder.mkdir(parents=True)
    retriever.save(folder, "step,epoch\n1,1\n")


def save_features(path: Path, ids: Sequence[str], width: int) -> list[NDArray[np.float16]]:
    """Random features of each id, of 1 to 6 frames (T, W); they follow from the file's name."""
    draw = np.random.default_rng(sum(path.stem.encode()))
    lengths = draw.integers(1, 7, len(ids))
    values = draw.normal(size=(int(lengths.sum()), width)).astype(np.float16)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_store(path, Header(path.stem, {}, "0", 0.1), ids, lengths, width, [values])
    return np.split(values, np.cumsum(lengths)[:-1])

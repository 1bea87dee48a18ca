"""Captioning-based retrieval: clips ranked by how similar their captions are to a query (CMU 3.2).

A captioning system's captions represent the clips, and a frozen text encoder compares texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.plans import CaptionedSystem
from pipeline.device import resolve_device
from pipeline.encoders.base import Packed
from pipeline.encoders.registry import build_text_encoder
from pipeline.features.bank import length_batches, open_banks
from pipeline.features.store import FeatureStore
from pipeline.metrics.retrieval import Embeddings
from pipeline.metrics.tables import read_predictions
from pipeline.models.layers.pooling import mean

BATCH_TOKENS = 1 << 14  # averaged together


def embed_captioned(
    system: CaptionedSystem,
    clips: Sequence[str],
    queries: Sequence[str],
    features: Path,
    predictions: Path,
    seeds: Sequence[int],
    device: str | torch.device,
) -> dict[int, Embeddings]:
    """Unit vectors of M queries and of N clips' captions, whose similarity is the cosine, by seed.

    Args:
        clips: N names.
        queries: M names of captions in the stored text features.
        features: folder of the dataset's feature files.
        predictions: folder of the dataset's captions, ``<system>.csv``.
        seeds: of the captioning system.

    Raises:
        EarwitnessError: no caption of a clip, or no features of a query.
    """
    path = predictions / f"{system.captions_of}.csv"
    captions = read_predictions(path, clips, seeds, "run `dvc repro decode`")
    encoder = build_text_encoder(system.encoder, resolve_device(device))
    asked = _stored_means(FeatureStore.open(features / f"{system.text}.h5"), queries)
    return {  # in the precision that queries are stored in
        seed: Embeddings(asked, _packed_means(encoder.encode(own, np.float16)))
        for seed, own in captions.items()
    }


def _stored_means(store: FeatureStore, queries: Sequence[str]) -> Tensor:
    """(M, D) unit means of each query's tokens."""
    bank = open_banks([store], queries, "cpu")[0]
    means = torch.zeros(len(queries), store.width)
    for batch in length_batches(bank.lengths, BATCH_TOKENS):
        means[batch] = mean(bank.batch(batch))
    return F.normalize(means, dim=-1)


def _packed_means(packed: Packed) -> Tensor:
    """(N, D) unit means of each caption's tokens."""
    owner = torch.from_numpy(np.repeat(np.arange(len(packed.lengths)), packed.lengths))
    values = torch.from_numpy(packed.values).float()
    means = torch.zeros(len(packed.lengths), values.shape[1]).index_add_(0, owner, values)
    return F.normalize(means, dim=-1)

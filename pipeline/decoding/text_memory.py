"""WSAC's text memory: the captions that a prefix captioner was trained on (WSAC 3.2).

It replaces a sound's embedding: nearest-neighbour decoding by that of the nearest caption,
projection by a mean of all captions', weighted by softmax(cosine / τ). Each batch reads the memory
in blocks and corrects the softmax as it goes (Milakov & Gimelshein 2018), so that no matrix of all
similarities is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from pipeline.config.plans import CaptionerPlan
from pipeline.config.prefix import TextMemoryConfig
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.splits import training_clips
from pipeline.errors import EarwitnessError
from pipeline.features.bank import open_banks
from pipeline.features.store import FeatureStore, caption_ids
from pipeline.models.layers.pooling import unit
from pipeline.tensors import Bank, Padded

BLOCK = 8192  # captions at once


class TextMemory:
    """The training captions' embeddings, and how they replace a sound's.

    Args:
        captions: N entries, one a caption; their values stay float16, as stored.
        source: where they are from, for the error message.

    Raises:
        EarwitnessError: there are none.
    """

    def __init__(
        self,
        captions: Bank,
        method: Literal["nearest", "projection"],
        temperature: float = 0.01,
        *,
        source: str = "text_memory",
        block: int = BLOCK,
    ) -> None:
        if len(captions) == 0:
            raise EarwitnessError(
                f"{source}: the text memory is empty; embed the captions that the captioner was "
                "trained on, or set text_memory.method: none"
            )
        self.captions, self.method, self.temperature = captions, method, temperature
        self.block = block

    @torch.no_grad()
    def read(self, sound: Padded) -> Padded:
        """(B, T, W) stored sound → (B, 1, W), which the decoder reads instead."""
        found = self.recall(unit(sound))
        return Padded(found[:, None], torch.ones_like(sound.lengths))

    @torch.no_grad()
    def recall(self, embeddings: Tensor) -> Tensor:
        """(B, W) unit embeddings of sound → (B, W) float32: z_i of eq. 3, or Σ w z of eq. 4."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return self._nearest(embeddings) if self.method == "nearest" else self._mean(embeddings)

    def _blocks(self) -> Iterator[Tensor]:
        """All captions: (n, W) float32 unit embeddings at a time."""
        for entries in torch.arange(len(self.captions)).split(self.block):
            yield unit(self.captions.batch(entries))

    def _nearest(self, queries: Tensor) -> Tensor:
        best = queries.new_full((len(queries),), -math.inf)
        found = torch.zeros_like(queries)
        for rows in self._blocks():
            cosine, index = (queries @ rows.T).max(-1)  # (B,)
            nearer = cosine > best
            best = torch.where(nearer, cosine, best)
            found = torch.where(nearer[:, None], rows[index], found)
        return found

    def _mean(self, queries: Tensor) -> Tensor:
        highest = queries.new_full((len(queries), 1), -math.inf)  # of the logits so far
        total = queries.new_zeros(len(queries), 1)  # Σ exp(logit − highest)
        summed = torch.zeros_like(queries)  # Σ exp(logit − highest) z
        for rows in self._blocks():
            logits = queries @ rows.T / self.temperature  # (B, n)
            higher = torch.maximum(highest, logits.amax(-1, keepdim=True))
            scale = (highest - higher).exp()
            weights = (logits - higher).exp_()
            total = total * scale + weights.sum(-1, keepdim=True)
            summed = torch.addmm(summed * scale, weights, rows)
            highest = higher
        return summed / total


def read_sound(
    memories: Sequence[TextMemory | None], batch: Sequence[tuple[Padded, ...]]
) -> list[tuple[Padded, ...]]:
    """M × E × (B, T, W) stored sound, replaced for each member that has a memory."""
    pairs = zip(memories, batch, strict=True)
    return [sound if memory is None else (memory.read(sound[0]),) for memory, sound in pairs]


def open_memory(
    settings: TextMemoryConfig | None,
    plan: CaptionerPlan,
    corpora: Path,
    features: Path,
    device: torch.device,
) -> TextMemory | None:
    """The memory of the captions that a captioner was trained on; None where it uses none.

    Args:
        plan: of the captioner; only a prefix captioner has a memory.
        corpora: folder of ``<dataset>.json``. features: of ``<dataset>/<encoder>.h5``.

    Raises:
        EarwitnessError: there are no captions, or no embeddings of them.
    """
    if settings is None or settings.method == "none":
        return None
    if plan.model.architecture != "prefix" or plan.text is None:
        return None
    clips, _ = training_clips(Manifest.load(corpora / f"{plan.dataset}.json"), plan.training)
    store = FeatureStore.open(features / plan.dataset / f"{plan.text}.h5")
    (captions,) = open_banks([store], caption_ids(clips), device)
    return TextMemory(captions, settings.method, settings.temperature, source=str(store.path))

"""Captions to embeddings in batches of similar length."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.encoders.base import Packed, TextEncoder
from pipeline.errors import one_line


class BatchedTextEncoder(TextEncoder):
    """A text encoder that embeds one padded batch at a time; bf16 on CUDA."""

    def __init__(self, batch: int, device: str) -> None:
        self.batch, self.device = batch, torch.device(device)

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """What computes."""

    def to(self, device: torch.device) -> None:
        self.network.to(device)
        self.device = device

    @abstractmethod
    def embed(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """B captions → (B, L, D) embeddings and (B, L) bool, true for those to keep."""

    def try_out(self, source: Path | str) -> None:
        """Embeds a caption: a tokenizer and a network that do not fit each other show only now.

        Raises:
            EarwitnessError: so they are; ``source`` is where they come from.
        """
        with one_line(source, "get its files again", "cannot embed a caption"):
            values = self.encode(["a dog barks"]).values
            if values.shape[1:] != (self.width,) or not np.isfinite(values).all():
                raise ValueError(f"gives {values.shape}, not finite numbers of width {self.width}")

    @torch.inference_mode()
    def encode(self, captions: Sequence[str], dtype: DTypeLike = np.float32) -> Packed:
        order = np.argsort([-len(caption) for caption in captions], kind="stable")
        kept: list[np.ndarray] = []
        counts: list[np.ndarray] = []
        cuda = self.device.type == "cuda"
        for start in tqdm(range(0, len(order), self.batch), "embed", disable=None, leave=False):
            batch = [captions[index] for index in order[start : start + self.batch]]
            with torch.autocast(self.device.type, torch.bfloat16, enabled=cuda):
                values, mask = self.embed(batch)
            kept.append(values[mask].float().cpu().numpy().astype(dtype))
            counts.append(mask.sum(1).cpu().numpy())
        if not kept:
            return Packed(np.zeros((0, self.width), dtype), np.zeros(0, np.int64))
        return _in_order(np.concatenate(kept), np.concatenate(counts), order)


def _in_order(values: np.ndarray, counts: np.ndarray, order: np.ndarray) -> Packed:
    """Restores the order of the captions.

    Args:
        values: (total, D), in sorted order.
        counts: (N,) embeddings of each caption, in sorted order.
        order: (N,), the caption at each sorted position.
    """
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = np.argsort(order, kind="stable")  # each caption's sorted position
    lengths = counts[place].astype(np.int64)
    ends = np.cumsum(lengths)
    within = np.arange(len(values)) - np.repeat(ends - lengths, lengths)
    return Packed(values[np.repeat(starts[place], lengths) + within], lengths)

"""What encoding does to each batch, wherever it runs: a tower's frames, or a side's embeddings."""

from __future__ import annotations

import copy
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.device import autocast
from pipeline.engine.steps import Steps
from pipeline.errors import EarwitnessError
from pipeline.models.biencoder import BiEncoder
from pipeline.models.towers.base import SoundTower
from pipeline.tensors import Padded, Tokens

Stored = tuple[Padded, ...]  # E × (B, T, W)


class Frames(NamedTuple):
    """The tower's frames of a batch of entries, in their order; on the CPU."""

    values: NDArray[np.float16]  # (frames, D)
    lengths: NDArray[np.int64]  # (n,)


class _ModelSteps(Steps[Any, Any, Any, Any]):
    """Steps of a model that also goes on here: what is pickled is a copy on the CPU."""

    model: nn.Module

    def __init__(self, model: nn.Module) -> None:
        self.model, self.device = model, next(model.parameters()).device

    def __getstate__(self) -> dict[str, Any]:
        cpu = torch.device("cpu")
        return {**self.__dict__, "model": copy.deepcopy(self.model).to(cpu), "device": cpu}

    def to(self, device: torch.device) -> None:
        self.model, self.device = self.model.to(device), device

    def read(self, item: Any) -> Any:
        return item

    def label(self, item: Any) -> str:
        return "a batch of features"


class FrameSteps(_ModelSteps):
    """Stored features, E × (B, T, W) → the tower's frames."""

    model: SoundTower

    def compute(self, read: Stored) -> Padded:
        return tower_frames(_moved(read, self.device), self.model, self.device)

    def finish(self, output: Padded) -> Frames:
        return unpack(output)


class EmbeddingSteps(_ModelSteps):
    """What a side reads of B clips or captions → (B, D) float32 embeddings."""

    model: BiEncoder

    def __init__(self, model: BiEncoder, side: Literal["sound", "text"], precision: str) -> None:
        super().__init__(model)
        self._side, self._precision = side, precision

    @torch.no_grad()
    def compute(self, read: Any) -> Tensor:
        embed = self.model.embed_sound if self._side == "sound" else self.model.embed_text
        with autocast(self._precision, self.device):
            return embed(_moved(read, self.device))

    def finish(self, output: Tensor) -> NDArray[np.float32]:
        values: NDArray[np.float32] = output.float().cpu().numpy()
        return values


@torch.no_grad()
def tower_frames(stored: Stored, tower: SoundTower, device: torch.device) -> Padded:
    """E × (B, T, W) → (B, T', D) on the device; bf16 on CUDA."""
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            frames: Padded = tower(stored).frames
            return frames
    except torch.cuda.OutOfMemoryError:
        raise EarwitnessError(
            "no GPU memory for {} × {} stored frames at once; free the GPU, or run on the CPU with "
            "an empty CUDA_VISIBLE_DEVICES".format(*stored[0].values.shape)
        ) from None


def unpack(frames: Padded) -> Frames:
    """(B, T', D) frames, concatenated as float16.

    Raises:
        EarwitnessError: a value is NaN or too large for float16.
    """
    values: Tensor = frames.values[frames.mask].half()
    if not bool(values.isfinite().all()):
        raise EarwitnessError(
            "the retriever's frames are NaN or too large for float16; train it again with a "
            "lower learning_rate"
        )
    return Frames(values.cpu().numpy(), frames.lengths.cpu().numpy())


def _moved(read: Any, device: torch.device) -> Any:
    return read.to(device) if isinstance(read, Tokens) else tuple(each.to(device) for each in read)

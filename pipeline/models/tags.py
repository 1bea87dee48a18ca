"""The tag space: a clip is the sum of its tags' embeddings, weighted by their probabilities.

So a tagger and a sentence encoder, which have never met, share a space without any training. See
:class:`pipeline.config.spaces.TagsConfig` for the formula.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.spaces import TagsConfig
from pipeline.models.layers.pooling import mean, unit
from pipeline.tensors import Padded


class TagSound(nn.Module):
    """Class probabilities to the sum of the names' embeddings; not scaled.

    Attributes:
        names: (C, D) float32, each class's name embedded, less the centre.
    """

    names: Tensor

    def __init__(self, classes: int, width: int, settings: TagsConfig) -> None:
        super().__init__()
        self.power, self.top = 1 / settings.temperature, settings.top
        self.embedding_width = width
        self.register_buffer("names", torch.zeros(classes, width))

    def embed(self, features: Sequence[Padded]) -> Tensor:
        """1 × (B, T, C) probabilities in time → (B, D) float32: of their means over the clip."""
        (padded,) = features
        found = mean(padded).clamp(min=0)
        if self.top is not None and self.top < found.shape[1]:
            best = found.topk(self.top, dim=1)
            found = torch.zeros_like(found).scatter_(1, best.indices, best.values)
        with torch.autocast(found.device.type, enabled=False):
            # of any scale: the greatest becomes 1, so that no power of small ones is lost
            scaled = found / found.amax(1, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)
            return scaled**self.power @ self.names


class CentredText(nn.Module):
    """Captions' embeddings of length 1, less the centre; not scaled again.

    Attributes:
        centre: (D,) float32.
    """

    centre: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding_width = width
        self.register_buffer("centre", torch.zeros(width))

    def embed(self, features: Sequence[Padded]) -> Tensor:
        """1 × (B, L, D) stored text → (B, D) float32."""
        (padded,) = features
        return unit(padded) - self.centre


def name_embeddings(embedded: Tensor, templates: int, centre: str) -> tuple[Tensor, Tensor]:
    """The two buffers: (C, D) of :class:`TagSound` and (D,) of :class:`CentredText`.

    Args:
        embedded: (C · templates, D) names in each template, name by name; any length.
        centre: see :class:`TagsConfig`.
    """
    each = F.normalize(embedded.float(), dim=-1).unflatten(0, (-1, templates)).mean(1)
    names = F.normalize(each, dim=-1)
    middle = names.mean(0) if centre == "labels" else torch.zeros_like(names[0])
    return names - middle, middle

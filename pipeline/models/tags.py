"""The tag space: a clip is what best gives back the probabilities of its tags.

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
    """Class probabilities to a sum of one vector a class; not scaled.

    Attributes:
        names: (C, D) float32, each class's vector, see :func:`name_embeddings`.
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


def name_embeddings(
    embedded: Sequence[Tensor], centre: str, ridge: float | None
) -> tuple[Tensor, Tensor]:
    """The two buffers: (C, D) of :class:`TagSound` and (D,) of :class:`CentredText`.

    Args:
        embedded: of each of C classes, (n, D): its name in each template and its descriptions; any
            length.
        centre, ridge: see :class:`TagsConfig`.
    """
    each = torch.stack([F.normalize(own.float(), dim=-1).mean(0) for own in embedded])
    places = F.normalize(each, dim=-1)
    middle = places.mean(0) if centre == "labels" else torch.zeros_like(places[0])
    names = places - middle
    if ridge is None:
        return names, middle
    wide = names.double()
    gram = wide.T @ wide  # (D, D)
    damped = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
    return torch.linalg.solve(damped, wide.T).T.float(), middle

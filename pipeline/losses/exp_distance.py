"""Binary cross-entropy on exp(−Euclidean distance) (Elizalde et al. 2019; CMU 6.2.5)."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.losses.contrastive import TwoWay
from pipeline.losses.impostors import Kind, draw_impostors, mean_there

TINY = 1e-6  # of distances: there the gradients of √ and log are still finite


def exp_distance_loss(
    audio: Tensor, text: Tensor, clips: Tensor, *, impostors: Kind = "random"
) -> TwoWay:
    """Each direction's mean of −log p(pair) − log(1 − p(impostor)), halved; p = exp(−distance).

    In float32 whatever the autocast. One impostor to each pair keeps both classes alike in number;
    the paper does not say what it would have paired.

    Args:
        audio: (B, D). text: (B, D) of the same pairs.
        clips: (B,) int64, the clip of each pair: captions of one clip are no impostors.
    """
    with torch.autocast(audio.device.type, enabled=False):
        audio, text = audio.float(), text.float()
        drawn = draw_impostors(-torch.cdist(audio.detach(), text.detach()), clips, impostors)
        matched = distances(audio, text)  # −log p
        other_text = _unlikely(distances(audio, text[drawn.text]))
        other_sound = _unlikely(distances(audio[drawn.sound], text))
        return TwoWay(
            mean_there((matched + other_text) / 2, drawn.there),
            mean_there((matched + other_sound) / 2, drawn.there),
        )


def distances(one: Tensor, other: Tensor) -> Tensor:
    """(B, D) and (B, D) → (B,) Euclidean distances, with gradients that are finite at 0."""
    return (one - other).square().sum(-1).clamp(min=TINY**2).sqrt()


def _unlikely(distance: Tensor) -> Tensor:
    """−log(1 − exp(−d)), which for small d is not what floats make of the plain formula."""
    return -torch.log(-torch.expm1(-distance))

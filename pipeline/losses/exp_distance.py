"""Binary cross-entropy on exp(−Euclidean distance) (Elizalde et al. 2019; CMU 6.2.5)."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.losses.contrastive import TwoWay
from pipeline.losses.negatives import Kind, draw_negatives, mean_valid

TINY = 1e-6  # the smallest distance: the gradients of √ and log are finite there


def exp_distance_loss(
    audio: Tensor, text: Tensor, clips: Tensor, *, negatives: Kind = "random"
) -> TwoWay:
    """Each direction's mean of (−log p(pair) − log(1 − p(negative))) / 2; p = exp(−distance).

    In float32, also under autocast. One negative a pair makes both classes equally frequent; the
    paper does not say which pairs it uses as negatives.

    Args:
        audio: (B, D). text: (B, D) of the same pairs.
        clips: (B,) int64, the clip of each pair: captions of one clip are not negatives of it.
    """
    with torch.autocast(audio.device.type, enabled=False):
        audio, text = audio.float(), text.float()
        drawn = draw_negatives(-torch.cdist(audio.detach(), text.detach()), clips, negatives)
        matched = distances(audio, text)  # −log p
        other_text = _unlikely(distances(audio, text[drawn.text]))
        other_sound = _unlikely(distances(audio[drawn.sound], text))
        return TwoWay(
            mean_valid((matched + other_text) / 2, drawn.valid),
            mean_valid((matched + other_sound) / 2, drawn.valid),
        )


def distances(one: Tensor, other: Tensor) -> Tensor:
    """(B, D) and (B, D) → (B,) Euclidean distances, with gradients that are finite at 0."""
    return (one - other).square().sum(-1).clamp(min=TINY**2).sqrt()


def _unlikely(distance: Tensor) -> Tensor:
    """−log(1 − exp(−d)), accurate for small d, where the plain formula is not."""
    return -torch.log(-torch.expm1(-distance))

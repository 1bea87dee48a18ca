"""The triplet margin loss of DCASE 2022's retrieval baseline (CMU 5.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.losses.contrastive import TwoWay
from pipeline.losses.impostors import Kind, draw_impostors, mean_there


def triplet_loss(
    audio: Tensor, text: Tensor, clips: Tensor, *, margin: float = 1.0, impostors: Kind = "random"
) -> TwoWay:
    """Each direction's mean of max(0, margin − s(pair) + s(impostor)), s the dot product.

    In float32 whatever the autocast. The sum of both directions is the baseline's loss; it draws
    anew where both impostors are of one pair, which is not done here.

    Args:
        audio: (B, D). text: (B, D) of the same pairs.
        clips: (B,) int64, the clip of each pair: captions of one clip are no impostors.
    """
    with torch.autocast(audio.device.type, enabled=False):
        audio, text = audio.float(), text.float()
        similarity = audio @ text.T
        drawn = draw_impostors(similarity, clips, impostors)
        own = similarity.diagonal()
        other_text = similarity.gather(1, drawn.text[:, None])[:, 0]
        other_sound = similarity.T.gather(1, drawn.sound[:, None])[:, 0]
        return TwoWay(
            mean_there((margin - own + other_text).clamp(min=0), drawn.there),
            mean_there((margin - own + other_sound).clamp(min=0), drawn.there),
        )

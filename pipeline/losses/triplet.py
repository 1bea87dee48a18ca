"""The triplet margin loss of DCASE 2022's retrieval baseline (CMU 5.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.losses.contrastive import TwoWay
from pipeline.losses.negatives import Kind, draw_negatives, mean_valid


def triplet_loss(
    audio: Tensor, text: Tensor, clips: Tensor, *, margin: float = 1.0, negatives: Kind = "random"
) -> TwoWay:
    """Each direction's mean of max(0, margin − s(pair) + s(negative)), s the dot product.

    In float32, also under autocast. The sum of both directions is the baseline's loss; the baseline
    draws again where both negatives are of one pair, which is not done here.

    Args:
        audio: (B, D). text: (B, D) of the same pairs.
        clips: (B,) int64, the clip of each pair: captions of one clip are not negatives of it.
    """
    with torch.autocast(audio.device.type, enabled=False):
        audio, text = audio.float(), text.float()
        similarity = audio @ text.T
        drawn = draw_negatives(similarity, clips, negatives)
        matched = similarity.diagonal()
        other_text = similarity.gather(1, drawn.text[:, None])[:, 0]
        other_sound = similarity.T.gather(1, drawn.sound[:, None])[:, 0]
        return TwoWay(
            mean_valid((margin - matched + other_text).clamp(min=0), drawn.valid),
            mean_valid((margin - matched + other_sound).clamp(min=0), drawn.valid),
        )

"""Every loss of retrievers, by the ``loss`` of section ``biencoder``, and what it reads there.

Light: the settings read the names, so each loss is imported when it is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.losses.contrastive import TwoWay

LossName = Literal["infonce", "triplet", "exp_distance"]
# of these settings the losses that read them; all read `mask_same_clip`
TEMPERATURE = ("infonce",)
MARGIN = ("triplet",)
NEGATIVES = ("triplet", "exp_distance")


def retrieval_loss(
    name: LossName,
    audio: Tensor,
    text: Tensor,
    clips: Tensor,
    *,
    scale: Tensor,
    margin: float,
    negatives: Literal["random", "hardest"],
) -> TwoWay:
    """Each direction's loss of a batch of pairs.

    Args:
        audio: (B, D). text: (B, D) of the same pairs.
        clips: (B,) int64, the clip of each pair: captions of one clip are not negatives of it.
        scale: () 1 / τ.
    """
    match name:
        case "infonce":
            from pipeline.losses.contrastive import two_way_infonce

            return two_way_infonce(audio, text, scale, clips)
        case "triplet":
            from pipeline.losses.triplet import triplet_loss

            return triplet_loss(audio, text, clips, margin=margin, negatives=negatives)
        case "exp_distance":
            from pipeline.losses.exp_distance import exp_distance_loss

            return exp_distance_loss(audio, text, clips, negatives=negatives)

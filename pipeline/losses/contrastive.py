"""Contrastive losses: the twin's, on the last hidden states of its branches (EDTC 3.4.2), and the
retriever's (SJTU 2.2).

In a batch, captions of one clip are not negatives of that clip: where ``clips`` is given, such
pairs are left out of the denominators.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Scale = Literal["none", "width", "cosine"]


def clip_loss(
    audio: Tensor,
    text: Tensor,
    temperature: float = 1.0,
    clips: Tensor | None = None,
    normalise: Scale = "none",
) -> Tensor:
    """CLIP's loss, EDTC eq. 5–7, the mean of both directions.

    The equations are read as CLIP's, which the paper compares them to: with the minus sign that
    eq. 5 and 6 lack, and with h_i^a · h_j^c in the denominators instead of the printed h_j^a ·
    h_j^c, which are the matched pairs only and would make both directions the same. The temperature
    is 1, as the paper prints none.

    Args:
        audio: (B, D) hidden states h^a.
        text: (B, D) hidden states h^c of the same pairs.
        clips: (B,) int64, the clip of each pair.
        normalise: ``none`` is eq. 5–6; ``width`` divides dot products by √D, without which the
            softmax of wide states starts saturated; ``cosine`` makes both sides unit vectors.

    Returns:
        a scalar.
    """
    logits = _similarity(audio, text, normalise) / temperature
    logits = _without_false_negatives(logits, clips)
    matched = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, matched) + F.cross_entropy(logits.T, matched)) / 2


def infonce_loss(
    audio: Tensor, text: Tensor, temperature: float = 0.07, clips: Tensor | None = None
) -> Tensor:
    """InfoNCE, the other loss of the ablation (EDTC 4.5), audio → text only.

    As in the work that EDTC cites for it, MoCo, and in Wu et al. 2023: cosine, temperature 0.07,
    the sound as the query, the batch's other texts as negatives.

    Args:
        audio: (B, D). text: (B, D). clips: (B,) int64, the clip of each pair.

    Returns:
        a scalar.
    """
    logits = _without_false_negatives(_similarity(audio, text, "cosine") / temperature, clips)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


class TwoWay(NamedTuple):
    """Each direction's loss, the mean over a batch; their sum is the loss of SJTU and CMU."""

    audio_to_text: Tensor  # ()
    text_to_audio: Tensor  # ()


def two_way_infonce(
    audio: Tensor, text: Tensor, scale: Tensor, clips: Tensor | None = None
) -> TwoWay:
    """InfoNCE in both directions, SJTU eq. 6; in float32, also under autocast.

    Args:
        audio: (B, D) unit vectors. text: (B, D) unit vectors of the same pairs.
        scale: () 1 / τ.
        clips: (B,) int64, the clip of each pair.
    """
    with torch.autocast(audio.device.type, enabled=False):
        logits = _without_false_negatives(_similarity(audio, text, "none") * scale, clips)
        matched = torch.arange(len(logits), device=logits.device)
        return TwoWay(F.cross_entropy(logits, matched), F.cross_entropy(logits.T, matched))


def _similarity(audio: Tensor, text: Tensor, normalise: Scale) -> Tensor:
    """(B, B) float32, audio by text."""
    audio, text = audio.float(), text.float()
    if normalise == "cosine":
        audio, text = F.normalize(audio, dim=-1), F.normalize(text, dim=-1)
    scale = 1 / math.sqrt(audio.shape[-1]) if normalise == "width" else 1.0
    return audio @ text.T * scale


def _without_false_negatives(logits: Tensor, clips: Tensor | None) -> Tensor:
    if clips is None:
        return logits
    same = clips[:, None] == clips
    same = same & ~torch.eye(len(clips), dtype=torch.bool, device=clips.device)
    return logits.masked_fill(same, -torch.inf)

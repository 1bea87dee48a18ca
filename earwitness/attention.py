"""Where in any sound a system looked for each word of a caption: pipeline/decoding/attention.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from earwitness.captioning import CaptioningSystem
from earwitness.inputs import Sound, read_sounds
from pipeline.decoding.attention import Attention, word_attention
from pipeline.decoding.text_memory import read_sound
from pipeline.limits import LONGEST_MINUTES
from pipeline.tensors import pad_arrays


@torch.no_grad()
def attention(
    system: CaptioningSystem,
    sounds: Sequence[Sound],
    texts: Sequence[str],
    *,
    sample_rate: int | None = None,
    longest_minutes: float = LONGEST_MINUTES,
) -> list[Attention | None]:
    """The attention of ``system`` to N sounds as it reads their N captions.

    Args:
        sounds, sample_rate, longest_minutes: see :meth:`CaptioningSystem.caption`.
        texts: its captions of them, or others.

    Raises:
        EarwitnessError: a sound cannot be used.
    """
    members = system.ensemble.captioners
    wanted = [(each.plan.dataset, name) for each in members for name in each.plan.features]
    read, found = read_sounds(sounds, sample_rate), []
    chunks = system.features.chunks(read, wanted, 1, longest_minutes)
    for made, text in zip(chunks, texts, strict=True):
        own = [
            tuple(
                pad_arrays(made[each.plan.dataset, name], system.ensemble.device)
                for name in each.plan.features
            )
            for each in members
        ]
        inputs = read_sound(system.memories, own)
        found.append(word_attention(members, inputs, text))
    return found

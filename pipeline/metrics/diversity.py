"""How varied captions are, which CIDEr-D does not measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.metrics.types import ClipScores, averaged

REPEATED = 2  # words in the n-grams whose repetition is counted


class Diversity(NamedTuple):
    vocabulary: int  # distinct words in all captions
    mean_length: ClipScores  # words in a caption
    repetition: ClipScores  # see `diversity`


def diversity(candidates: Sequence[str]) -> Diversity:
    """Vocabulary, mean length and repetition of N tokenized captions.

    Repetition is seq-rep-n of Welleck et al. 2020 with n = 2: of a caption's pairs of neighbouring
    words, the share that occurred before in the same caption, 1 − distinct / all; 0 for captions
    of fewer than three words. The corpus value is the mean over clips.
    """
    words = [candidate.split() for candidate in candidates]
    return Diversity(
        vocabulary=len({word for caption in words for word in caption}),
        mean_length=averaged(np.array([float(len(caption)) for caption in words])),
        repetition=averaged(np.array([_repeated(caption) for caption in words])),
    )


def _repeated(words: Sequence[str]) -> float:
    grams = [tuple(words[at : at + REPEATED]) for at in range(len(words) - REPEATED + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0

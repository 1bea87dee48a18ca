"""One line for a whole recording, from the captions of its windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

MOST = 3  # captions in the line
ADDS = 0.05  # of the recording, which a further caption must stand for
COMPARED = 1000  # different captions, those that last longest


def merged(captions: Sequence[tuple[str, float]]) -> str:
    """The few captions that stand for all, in the order of time, with ``; `` between them.

    Two captions are alike by the words and pairs of words that they share (F1 of their unigrams and
    bigrams). The first taken is the one that is most like all others, each weighted by how long it
    lasts; another is taken where it makes what is taken more like the recording by a twentieth, at
    most three.

    Args:
        captions: of each window, with its length in seconds; at least one.
    """
    lasting: Counter[str] = Counter()
    for text, seconds in captions:
        lasting[text] += seconds  # type: ignore[assignment]
    texts = [text for text, _ in lasting.most_common(COMPARED)]
    weights = np.array([lasting[text] for text in texts])
    weights /= max(weights.sum(), 1e-9)
    alike = similarity(texts)
    covered = np.zeros(len(texts))
    taken: list[int] = []
    while len(taken) < min(MOST, len(texts)):
        gains = np.maximum(alike, covered) @ weights - covered @ weights
        best = int(gains.argmax())
        if taken and gains[best] < ADDS:
            break
        taken.append(best)
        covered = np.maximum(covered, alike[best])
    chosen = {texts[at] for at in taken}
    return "; ".join(dict.fromkeys(text for text, _ in captions if text in chosen))


def similarity(texts: Sequence[str]) -> NDArray[np.float64]:
    """(N, N) F1 of the words and pairs of words of each two texts, each counted once."""
    grams = [_grams(text) for text in texts]
    columns = {gram: at for at, gram in enumerate(dict.fromkeys(g for own in grams for g in own))}
    has = np.zeros((len(texts), len(columns)), np.float32)
    for row, own in zip(has, grams, strict=True):
        row[[columns[gram] for gram in own]] = 1
    sizes = np.array([len(own) for own in grams])
    return 2 * (has @ has.T) / np.maximum(sizes[:, None] + sizes, 1)


def _grams(text: str) -> list[tuple[str, ...]]:
    words = text.lower().split()
    return [*dict.fromkeys([*((word,) for word in words), *pairwise(words)])]

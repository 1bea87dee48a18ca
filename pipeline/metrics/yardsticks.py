"""What a system's scores stand beside: a constant, the nearest training clip, and a human."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EarwitnessError
from pipeline.metrics.cider_d import CiderD
from pipeline.metrics.sets import ScoredSet
from pipeline.text import ptb

Vectors = NDArray[np.float32]


def constant_caption(
    training: Sequence[Sequence[str]], validation: Sequence[Sequence[str]] | None
) -> str:
    """The training caption that scores best as the caption of every clip, by CIDEr-D.

    Args:
        training: a row of captions a clip, all of them candidates.
        validation: the rows that they are scored on; ``training`` itself where there are none.
            Never the evaluation split: this is a captioner that cannot hear, not an oracle.
    """
    captions = [*dict.fromkeys(caption for row in training for caption in row)]
    scored = [ptb.tokenize(row) for row in (validation or training)]
    return captions[int(CiderD(scored).score_constant(ptb.tokenize(captions)).argmax())]


def nearest_captions(
    training: Vectors, evaluation: Vectors, captions: Sequence[Sequence[str]]
) -> list[str]:
    """The caption of each evaluation clip's nearest training clip.

    Nearest is by the cosine of the clips' vectors. Of the training clip's captions it is the one
    that agrees best with its others, by CIDEr-D with the training captions' document frequency.

    Args:
        training: (M, D) a vector a training clip.
        evaluation: (N, D)
        captions: M rows of captions.
    """
    nearest = (_unit(evaluation) @ _unit(training).T).argmax(axis=1)
    chosen = consensus_captions(captions, sorted(set(nearest.tolist())))
    return [chosen[clip] for clip in nearest.tolist()]


def joined(encoders: Sequence[Vectors]) -> Vectors:
    """(N, ΣD) one vector a clip of several encoders': each to length one, side by side."""
    return np.concatenate([_unit(vectors) for vectors in encoders], axis=1)


def consensus_captions(rows: Sequence[Sequence[str]], chosen: Sequence[int]) -> dict[int, str]:
    """Of each row in ``chosen`` the caption that scores best against the row's others."""
    tokens = [ptb.tokenize(row) for row in rows]
    pairs = [(row, at) for row in chosen for at in range(len(rows[row]))]
    many = [(row, at) for row, at in pairs if len(rows[row]) > 1]
    best = {row: rows[row][0] for row in chosen}
    if not many:
        return best
    others = [_without(tokens[row], at) for row, at in many]
    scores = CiderD(others, document_frequency=tokens).score([tokens[row][at] for row, at in many])
    highest: dict[int, float] = {}
    for (row, at), score in zip(many, scores.clips.tolist(), strict=True):
        if score > highest.get(row, -1.0):
            highest[row], best[row] = score, rows[row][at]
    return best


def human(references: Sequence[Sequence[str]]) -> ScoredSet:
    """One person's caption of each clip, scored against the other people's.

    Clip i gives its caption i mod R, so that no column is preferred. The candidate meets one
    reference fewer than a system does, four in Clotho, which lowers its scores a little.

    Raises:
        EarwitnessError: a clip has one caption only.
    """
    for row, captions in enumerate(references):
        if len(captions) < 2:
            raise EarwitnessError(f"clip {row + 1} has one caption: no other to score it against")
    turns = [row % len(captions) for row, captions in enumerate(references)]
    pairs = list(zip(references, turns, strict=True))
    return ScoredSet([row[at] for row, at in pairs], [_without(row, at) for row, at in pairs])


def _without(row: Sequence[str], at: int) -> list[str]:
    return [*row[:at], *row[at + 1 :]]


def _unit(vectors: Vectors) -> Vectors:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, 1e-12), dtype=np.float32)

"""Baselines for every system: a constant caption, the nearest training clip, and a human."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.metrics.cider_d import CiderD, UnweightedError
from pipeline.metrics.types import ScoredSet
from pipeline.text import ptb

Vectors = NDArray[np.float32]

PREFIX = "yardstick_"


def yardsticks(
    manifest: Manifest, split: str, features: Mapping[str, Path]
) -> tuple[dict[str, ScoredSet], dict[str, str]]:
    """The three yardsticks of one dataset's split; for those that cannot be made, the reason.

    Args:
        features: feature files of the dataset by encoder; all of them together find the nearest.

    Raises:
        EarwitnessError: the clips of the features are not the dataset's.
    """
    clips = manifest.split(split)
    references = [clip.captions for clip in clips]
    makers: dict[str, Callable[[], ScoredSet]] = {
        "constant": lambda: ScoredSet([_constant(manifest, split)] * len(clips), references),
        "nearest": lambda: ScoredSet(_nearest(manifest, split, features), references),
        "human": lambda: human(references),
    }
    made, absent = {}, {}
    for name, make in makers.items():
        try:
            made[PREFIX + name] = make()
        except (Unmakeable, UnweightedError) as error:
            absent[PREFIX + name] = str(error)
    return made, absent


class Unmakeable(EarwitnessError):
    """A yardstick that needs what this dataset does not have."""


def _training(manifest: Manifest, split: str) -> list[Clip]:
    clips = [clip for clip in manifest.clips if clip.split == "development" != split]
    if not clips:
        raise Unmakeable(f"{manifest.dataset} has no development split beside {split}")
    return clips


def _constant(manifest: Manifest, split: str) -> str:
    chosen_on = [clip.captions for clip in manifest.clips if clip.split == "validation" != split]
    training = [clip.captions for clip in _training(manifest, split)]
    return constant_caption(training, chosen_on or None)


def _nearest(manifest: Manifest, split: str, features: Mapping[str, Path]) -> list[str]:
    training, evaluation = _training(manifest, split), manifest.split(split)
    if not features:
        raise Unmakeable("no encoders' features are given")
    both = [*training, *evaluation]
    vectors = joined([_pooled(path, manifest, both) for path in features.values()])
    captions = [clip.captions for clip in training]
    return nearest_captions(vectors[: len(training)], vectors[len(training) :], captions)


def _pooled(path: Path, manifest: Manifest, clips: Sequence[Clip]) -> Vectors:
    """(N, D) the mean over frames of each clip's stored features, of the clean view."""
    from pipeline.features.store import FeatureStore

    if not path.exists():
        raise Unmakeable(f"{path} is not there; run `dvc repro extract`")
    store = FeatureStore.open(path)
    store.check_ids([clip.clip_id for clip in manifest.clips], f"dataset {manifest.dataset}")
    place = {name: at for at, name in enumerate(store.ids)}
    means = (store.entry(place[clip.clip_id]).mean(axis=0, dtype=np.float32) for clip in clips)
    return np.stack([*means])


def constant_caption(
    training: Sequence[Sequence[str]], validation: Sequence[Sequence[str]] | None
) -> str:
    """The training caption that scores best as the caption of every clip, by CIDEr-D.

    Args:
        training: a row of captions a clip, all of them candidates.
        validation: the rows that they are scored on; ``training`` itself where there are none, or
            too few for CIDEr-D. Never the evaluation split: a yardstick must not see it.

    Raises:
        UnweightedError: there are too few for CIDEr-D in both.
    """
    captions = [*dict.fromkeys(caption for row in training for caption in row)]
    try:
        scorer = CiderD([ptb.tokenize(row) for row in (validation or training)])
    except UnweightedError:
        scorer = CiderD([ptb.tokenize(row) for row in training])
    return captions[int(scorer.score_constant(ptb.tokenize(captions)).argmax())]


def nearest_captions(
    training: Vectors, evaluation: Vectors, captions: Sequence[Sequence[str]]
) -> list[str]:
    """The caption of each evaluation clip's nearest training clip.

    Nearest is by the cosine of the clips' vectors. Of the training clip's captions the one is taken
    that agrees best with the others, by CIDEr-D with the training captions' document frequencies.

    Args:
        training: (M, D) a vector a training clip.
        evaluation: (N, D)
        captions: M rows of captions.
    """
    nearest = (_unit(evaluation) @ _unit(training).T).argmax(axis=1)
    chosen = consensus_captions(captions, sorted(set(nearest.tolist())))
    return [chosen[clip] for clip in nearest.tolist()]


def joined(encoders: Sequence[Vectors]) -> Vectors:
    """(N, ΣD) each clip's vectors of several encoders, of length 1 each, concatenated."""
    return np.concatenate([_unit(vectors) for vectors in encoders], axis=1)


def consensus_captions(rows: Sequence[Sequence[str]], chosen: Sequence[int]) -> dict[int, str]:
    """Of each row in ``chosen`` the caption that scores best against the row's other captions.

    Raises:
        UnweightedError: a row has several captions, but there are too few rows for CIDEr-D.
    """
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

    Of clip i it is caption i mod R, so that no column is preferred. There is one reference fewer
    than for a system, four in Clotho, which lowers the scores a little.

    Raises:
        Unmakeable: a clip has one caption only.
    """
    for row, captions in enumerate(references):
        if len(captions) < 2:
            raise Unmakeable(f"clip {row + 1} has one caption: no other to score it against")
    turns = [row % len(captions) for row, captions in enumerate(references)]
    pairs = list(zip(references, turns, strict=True))
    return ScoredSet([row[at] for row, at in pairs], [_without(row, at) for row, at in pairs])


def _without(row: Sequence[str], at: int) -> list[str]:
    return [*row[:at], *row[at + 1 :]]


def _unit(vectors: Vectors) -> Vectors:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, 1e-12), dtype=np.float32)

"""The simplest retriever, a linear one: ``python -m benchmarks.ridge DATASET``.

A ridge regression from a clip's pooled sound features to the pooled text features of its captions,
fitted on the development split, ranked by cosine on the evaluation split. A trained retriever on
the same frozen features must be better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from pipeline.config.params import load_params
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore, caption_ids, open_stores
from pipeline.metrics.retrieval import chance_scores, ranking_scores
from pipeline.trained.ranking_files import table
from stages import paths
from stages.run import run

Values = NDArray[np.float64]

STRENGTHS = 10.0 ** np.arange(-6, 6.5, 0.5)  # λ, as shares of the mean squared singular value
RAW = frozenset({"logmel", "waveform", "fbank"})  # for towers; useless when pooled


class Pairs(NamedTuple):
    """One split: N clips, M captions."""

    sound: Values  # (N, D)
    text: Values  # (M, W), unit rows
    clip_of: NDArray[np.int64]  # (M,)


def read(manifest: Manifest, split: str, sound: Sequence[str], text: str) -> Pairs:
    """The mean over frames, or tokens, of the stored features of one split."""
    folder = paths.FEATURES / manifest.dataset
    clips = manifest.split(split)
    names = [clip.clip_id for clip in clips]
    counts = [len(clip.captions) for clip in clips]
    stores = open_stores(folder, sound)
    return Pairs(
        np.concatenate([_pooled(store, names) / _scale(store) for store in stores], axis=1),
        _unit(_pooled(FeatureStore.open(folder / f"{text}.h5"), caption_ids(clips))),
        np.repeat(np.arange(len(clips)), counts),
    )


def _pooled(store: FeatureStore, ids: Sequence[str]) -> Values:
    """(N, D) of the clips, or (M, W) of the captions."""
    place = {name: at for at, name in enumerate(store.ids)}
    if missing := next((name for name in ids if name not in place), None):
        raise EarwitnessError(
            f"{store.path}: no features of {missing!r}; run `dvc repro extract embed`"
        )
    means = [store.entry(place[name]).mean(axis=0, dtype=np.float64) for name in ids]
    return np.stack(means)


def _scale(store: FeatureStore) -> float:
    """One number an encoder, so that several have equal weight."""
    return max(float(np.abs(store.values[:10_000]).mean(dtype=np.float64)), 1e-12)


def _unit(rows: Values) -> Values:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


class Ridge(NamedTuple):
    """A regression with an intercept, from (n, D) to (n, W)."""

    strength: float  # λ
    mean: Values  # (D,)
    weights: Values  # (D, W)
    intercept: Values  # (W,)

    def __call__(self, sound: Values) -> Values:
        return (sound - self.mean) @ self.weights + self.intercept


def fitted(sound: Values, text: Values) -> Iterator[Ridge]:
    """One for each strength. ``sound``: (M, D), a row a caption; ``text``: (M, W)."""
    mean, intercept = sound.mean(axis=0), text.mean(axis=0)
    left, values, right = np.linalg.svd(sound - mean, full_matrices=False)
    projected = left.T @ (text - intercept)
    for strength in STRENGTHS:
        shrunk = values / (values**2 + strength * (values**2).mean())
        yield Ridge(float(strength), mean, right.T @ (shrunk[:, None] * projected), intercept)


def score(ridge: Ridge, pairs: Pairs) -> dict[str, float]:
    similarity = pairs.text @ _unit(ridge(pairs.sound)).T
    return ranking_scores(torch.from_numpy(similarity), torch.from_numpy(pairs.clip_of))


def main(
    dataset: str,
    sound: Annotated[list[str] | None, typer.Option(help="encoders; all by default")] = None,
    text: Annotated[str, typer.Option(help="text encoder; the first by default")] = "",
    split: Annotated[str, typer.Option(help="that is ranked")] = "evaluation",
) -> None:
    """Prints the scores × 100, and those of chance."""
    params = load_params(paths.PARAMS)
    pooled = [name for name, e in params.encoders.items() if e.module not in RAW]
    encoders, words = sound or pooled, text or next(iter(params.text_encoders), "")
    if not encoders or not words:
        raise EarwitnessError(
            "params.yaml has no frozen encoder, or no text encoder, to regress on"
        )
    manifest = Manifest.load(paths.CORPORA / f"{dataset}.json")
    training, validation, ranked = (
        read(manifest, name, encoders, words) for name in ("development", "validation", split)
    )
    chosen = max(
        fitted(training.sound[training.clip_of], training.text),
        key=lambda ridge: score(ridge, validation)["t2a_map10"],
    )
    chance = chance_scores(torch.from_numpy(ranked.clip_of), len(ranked.sound))
    print(f"{dataset}, {split}: {' + '.join(encoders)} → {words}, λ {chosen.strength:.2g}")
    print(table({"ridge": score(chosen, ranked), "chance": chance}, {}))


if __name__ == "__main__":
    run(main)

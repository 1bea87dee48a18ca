"""Do captions name the right kind of sound? ``python -m benchmarks.kinds realsounds edtc``.

A caption names the kind that is nearest to it among all kinds of the dataset, by MiniLM. Where a
kind lies, :func:`judge` says: what people write of it, beside its name. The name alone misleads:
"crickets are chirping" is nearer to *chirping birds* than to *crickets*. ``python -m
benchmarks.judge`` measures the judge itself. Chance is one in the number of kinds; the clips' human
captions, scored the same way, are the upper bound.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.config.encoders import SentenceEncoderConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.registry import build_text_encoder

Vectors = NDArray[np.float32]
DESCRIBES = "development"  # the split whose captions say what people call a kind


class Judge(NamedTuple):
    """Which of K kinds a caption names."""

    kinds: list[str]
    places: Vectors  # (K, D) unit vectors

    def named(self, captions: Sequence[str]) -> list[str]:
        """The kind nearest to each caption."""
        nearest = (embed(captions) @ self.places.T).argmax(axis=1)
        return [self.kinds[at] for at in nearest.tolist()]

    def accuracy(self, captions: Sequence[str], truth: Sequence[str]) -> float:
        """Share of captions that name their kind."""
        return float(np.mean([a == b for a, b in zip(self.named(captions), truth, strict=True)]))


def judge(
    kinds: Sequence[str], described: Mapping[str, Sequence[str]], name_weight: float = 1.0
) -> Judge:
    """A kind lies at the mean of its captions' embeddings plus that of its name, scaled to 1.

    Args:
        described: captions of clips of a kind, none of which is judged later; a kind without any
            lies at its name.
        name_weight: of the name beside the captions' mean; chosen by benchmarks/judge.py.
    """
    names = [kind.replace("_", " ") for kind in kinds]
    captions = [caption for kind in kinds for caption in described.get(kind, ())]
    embedded = embed([*names, *captions])
    places, written = name_weight * embedded[: len(names)], embedded[len(names) :]
    begin = 0
    for at, kind in enumerate(kinds):
        end = begin + len(described.get(kind, ()))
        if begin < end:
            places[at] += written[begin:end].mean(axis=0)
        begin = end
    return Judge([*kinds], _unit(places))


def by_names(kinds: Sequence[str]) -> Judge:
    """The judge that knows nothing but the kinds' names."""
    return judge(kinds, {})


def described_by(clips: Iterable[Clip]) -> dict[str, list[str]]:
    """What people write of each kind: captions of the clips in which nothing else is heard."""
    found: dict[str, list[str]] = {}
    for clip in clips:
        if clip.split == DESCRIBES and len({*clip.events}) == 1:
            found.setdefault(clip.events[0], []).extend(clip.captions)
    return found


def embed(sentences: Sequence[str]) -> Vectors:
    """(N, D) unit vectors."""
    encoder = build_text_encoder(SentenceEncoderConfig(module="sentence", pooling="mean"))
    return _unit(np.asarray(encoder.encode(sentences).values, np.float32))


def _unit(values: Vectors) -> Vectors:
    unit: Vectors = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit


def main(dataset: str, system: str) -> None:
    manifest = Manifest.load(Path("data/corpora") / f"{dataset}.json")
    kinds = sorted({clip.events[0] for clip in manifest.clips if clip.events})
    by_id = {clip.clip_id: clip for clip in manifest.clips}
    with (Path("data/predictions") / dataset / f"{system}.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    clips = [by_id[row["clip_id"]] for row in rows]
    truth = [clip.events[0] for clip in clips]
    judges = judge(kinds, described_by(manifest.clips)), by_names(kinds)
    count = len({row["clip_id"] for row in rows})  # a row a seed
    print(f"| captions of {count} clips, {len(kinds)} kinds | right kind | by names alone |")
    print("|---|---|---|")
    for name, captions in (
        (system, [row["caption"] for row in rows]),
        ("first human caption", [clip.captions[0] for clip in clips]),
    ):
        cells = [f"{own.accuracy(captions, truth):.1%}" for own in judges]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"| chance | {1 / len(kinds):.1%} | {1 / len(kinds):.1%} |")


if __name__ == "__main__":
    main(*sys.argv[1:])

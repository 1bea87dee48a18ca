"""Do captions name the right kind of sound? ``python -m benchmarks.kinds realsounds edtc``.

Each caption of a system is embedded by MiniLM, and so is the name of every kind of event in the
dataset ("church bells"); the caption names the kind whose name is nearest. Chance is one in the
number of kinds; the clips' human captions, scored the same way, are the upper bound.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config.encoders import SentenceEncoderConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.registry import build_text_encoder


def embed(sentences: list[str]) -> NDArray[np.float32]:
    """(N, D) unit vectors."""
    encoder = build_text_encoder(SentenceEncoderConfig(module="sentence", pooling="mean"))
    values = np.asarray(encoder.encode(sentences).values, np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def named(captions: list[str], kinds: list[str]) -> NDArray[np.int64]:
    """(N,) index of the kind whose name is nearest to each caption."""
    names = embed([kind.replace("_", " ") for kind in kinds])
    return (embed(captions) @ names.T).argmax(axis=1)


def accuracy(captions: list[str], clips: list[Clip], kinds: list[str]) -> float:
    """Share of captions that name the first event of their clip."""
    truth = np.array([kinds.index(clip.events[0]) for clip in clips])
    return float((named(captions, kinds) == truth).mean())


def main(dataset: str, system: str) -> None:
    manifest = Manifest.load(Path("data/corpora") / f"{dataset}.json")
    kinds = sorted({clip.events[0] for clip in manifest.clips if clip.events})
    by_id = {clip.clip_id: clip for clip in manifest.clips}
    with (Path("data/predictions") / dataset / f"{system}.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    clips = [by_id[row["clip_id"]] for row in rows]
    system_share = accuracy([row["caption"] for row in rows], clips, kinds)
    human = accuracy([c.captions[0] for c in clips], clips, kinds)
    count = len({row["clip_id"] for row in rows})  # a row a seed
    print(f"| captions of {count} clips, {len(kinds)} kinds | right kind |\n|---|---|")
    print(f"| {system} | {system_share:.1%} |\n| first human caption | {human:.1%} |")
    print(f"| chance | {1 / len(kinds):.1%} |")


if __name__ == "__main__":
    main(*sys.argv[1:])

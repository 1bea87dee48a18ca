"""Runs for the report's views of attention, retrieval and the modality gap."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from earwitness.report.run import Run
from pipeline.config.params import load_params
from pipeline.corpora.manifest import Clip, Manifest
from tests.shared_repository import make_shared_repository, write_rows

CAPTIONED = {"alone": "a dog barks", "three": "two bells ring", "fused": "a dog", "wsac": "a dog"}
SPLITS = ("development", "evaluation", "evaluation", "evaluation", "evaluation")
QUERIES = ("a bell rings", "a dog barks twice", "rain", "nothing at all", "<b>bold</b> & \u202eodd")
FOUND = 14  # clips that are searched
RANKS = {"first": (1, 3, 10, 12, 2), "second": (2, 1, 1, 14, 5)}


def models_run(root: Path, outside: Path) -> Run:
    """Real captioners of every kind, on five recordings, of which four are tested."""
    make_shared_repository(root, outside)
    path = root / "data/corpora/toy.json"
    manifest = Manifest.load(path)
    pairs = zip(manifest.clips, SPLITS, strict=True)
    clips = tuple(replace(clip, split=split) for clip, split in pairs)
    replace(manifest, clips=clips).save(path)
    for system, caption in CAPTIONED.items():
        rows = [("1", clip.clip_id, caption, -1.0, "[]") for clip in clips[1:]]
        header = ("seed", "clip_id", "caption", "log_prob", "candidates")
        write_rows(root / f"data/predictions/toy/{system}.csv", header, rows)
    for folder in ("scores", "rankings"):
        for old in (root / "data" / folder).rglob("*.csv"):
            old.unlink()
    text = (root / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(f"{text}report: {{attention_clips: 3}}\n", encoding="utf-8")
    return Run(root, root, load_params(root / "params.yaml"))


def ranked_run(root: Path) -> Run:
    """Fourteen recordings, five queries, and two systems' rankings by two seeds; no models."""
    (root / "sounds").mkdir(parents=True)
    names = [f"clip-{number}" for number in range(FOUND)]
    for number, name in enumerate(names):
        time = np.arange(16000) / 16000
        tone = 0.3 * np.sin(2 * np.pi * (200 + 100 * number) * time)
        soundfile.write(root / f"sounds/{name}.wav", tone, 16000)
    captions = {name: (QUERIES[n],) if n < len(QUERIES) else () for n, name in enumerate(names)}
    clips = tuple(Clip(n, "evaluation", f"sounds/{n}.wav", 1.0, captions[n]) for n in names)
    Manifest("toy", str(root), clips).save(root / "data/corpora/toy.json")
    for system, ranks in RANKS.items():
        rows = [
            (
                seed,
                QUERIES[query],
                *listed(names, query, rank + seed - 1),
                rank + seed - 1,
                query + 1,
            )
            for seed in (1, 2)
            for query, rank in enumerate(ranks)
        ]
        places = (f"fname_{place}" for place in range(1, 11))
        write_rows(
            root / f"data/rankings/toy/{system}.csv",
            ("seed", "caption", *places, "rank", "caption_rank"),
            rows,
        )
    (root / "params.yaml").write_text(
        "datasets: {toy: {layout: clotho, root: toy}}\n"
        "encoders: {logmel: {module: logmel}}\n"
        "text_encoders: {minilm: {module: sentence}}\n"
        "retrievers: {flat: {datasets: [toy], sound: [logmel], text: minilm}}\n"
        "retrieval_test_sets: [toy]\n"
        "retrieval_systems: {first: {retrievers: [flat]}, second: {retrievers: [flat]}}\n",
        encoding="utf-8",
    )
    return Run(root, root, load_params(root / "params.yaml"))


def listed(names: list[str], right: int, rank: int) -> list[str]:
    """The first ten files, where clip ``right`` stands at ``rank``."""
    others = [name for name in names if name != names[right]]
    order = [*others[: rank - 1], names[right], *others[rank - 1 :]]
    return [f"{name}.wav" for name in order[:10]]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))

"""What features in 8 bits cost: ``python -m benchmarks.int8 [SEEDS]``, after `dvc repro`.

The features of the default run are written again as int8, and the captioner ``transformer`` and the
retriever ``frozen-minilm`` are trained and scored with both, with the same seeds. The error is that
of a frame, as a share of its norm. Training twice with two seeds differs too: the spread of the
seeds is what a difference is to be compared with.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from earwitness.repository import find_repository
from pipeline.config.feature_files import StoredAs
from pipeline.config.plans import CaptionerPlan, DecodingPlan, RetrieverPlan
from pipeline.corpora.manifest import Manifest
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predictions import caption_clips
from pipeline.features.store import FeatureStore, open_stores, write_store
from pipeline.metrics.cider_d import CiderD
from pipeline.metrics.retrieval import ensemble_ranks, scores
from pipeline.text import ptb
from pipeline.trained.captioner import load_captioner
from pipeline.trained.ranking import embed, queries_of
from pipeline.training.contrastive import train_retriever
from pipeline.training.cross_entropy import train_captioner

DATASET, CAPTIONER, RETRIEVER = "soundscapes", "transformer", "frozen-minilm"
BLOCK = 1 << 14


def rewritten(source: Path, target: Path, store: StoredAs) -> tuple[float, float, int]:
    """A feature file as it is, or in int8 → the mean and the largest error, and its bytes."""
    old = FeatureStore.open(source)
    blocks = (old.values[at : at + BLOCK] for at in range(0, len(old.values), BLOCK))
    header = replace(old.header, store=store)
    write_store(target, header, old.ids, old.lengths, old.width, blocks)
    exact = np.array(old.values, np.float32)
    off = np.linalg.norm(np.array(FeatureStore.open(target).values, np.float32) - exact, axis=1)
    share = off / np.maximum(np.linalg.norm(exact, axis=1), 1e-9)
    return float(share.mean()), float(share.max()), target.stat().st_size


def captioned(data: Path, features: Path, folder: Path, seed: int) -> float:
    """CIDEr-D of the evaluation split."""
    plan = CaptionerPlan.load(data / f"plans/captioners/{CAPTIONER}/1.json")
    plan = plan.model_copy(update={"seed": seed})
    manifest = Manifest.load(data / f"corpora/{DATASET}.json")
    stores = open_stores(features, plan.features)
    output = folder / f"captioner-{seed}"
    train_captioner(plan, manifest, stores, None, output=output, checkpoints=folder / "checkpoints")
    captioner = load_captioner(output, "cpu")
    clips = [*manifest.recordings("evaluation")]
    decoding = DecodingPlan.load(data / f"plans/systems/{DATASET}-{CAPTIONER}.json").decoding
    names = [clip.clip_id for clip in clips]
    found = caption_clips(Ensemble((captioner,)), [stores], names, decoding, CAPTIONER, seed=seed)
    scorer = CiderD([ptb.tokenize(clip.captions) for clip in clips])
    return float(scorer.score(ptb.tokenize([each.text for each in found])).corpus)


def retrieved(data: Path, features: Path, folder: Path, seed: int) -> float:
    """mAP@10 of the evaluation split, text to audio."""
    plan = RetrieverPlan.load(data / f"plans/retrievers/{RETRIEVER}/1.json")
    plan = plan.model_copy(update={"seed": seed})
    manifest = Manifest.load(data / f"corpora/{DATASET}.json")
    train_retriever(
        plan,
        {DATASET: manifest},
        {DATASET: open_stores(features, plan.sound.features)},
        {DATASET: open_stores(features, plan.text.features)},
        start=None,
        output=folder / f"retriever-{seed}",
        checkpoints=folder / "checkpoints",
    )
    clips = [*manifest.recordings("evaluation")]
    embeddings = embed(folder / f"retriever-{seed}", features, clips, clips, "cpu")
    clip_of = queries_of(clips).clip_of
    return scores(ensemble_ranks([embeddings], clip_of), clip_of)["t2a_map10"]


def main(seeds: Sequence[int]) -> None:
    torch.set_num_threads(1)
    data = find_repository().data
    whole = data / f"features/{DATASET}"
    names = [str(path.relative_to(whole)) for path in sorted(whole.rglob("*.h5"))]
    print("| features | float16 MB | int8 MB | mean error | largest |\n|---|---:|---:|---:|---:|")
    with TemporaryDirectory() as folder:
        places: dict[StoredAs, Path] = {"float16": whole, "int8": Path(folder) / "features"}
        for name in names:
            mean, largest, size = rewritten(whole / name, places["int8"] / name, "int8")
            megabytes = (whole / name).stat().st_size / 1e6
            print(f"| {name} | {megabytes:.1f} | {size / 1e6:.1f} | {mean:.2%} | {largest:.2%} |")
        print("\n| stored as | seed | CIDEr-D | mAP@10 |\n|---|---:|---:|---:|", flush=True)
        for seed in seeds:
            for store, features in places.items():
                made = Path(folder) / store
                cider = captioned(data, features, made, seed)
                found = retrieved(data, features, made, seed)
                print(f"| {store} | {seed} | {cider:.4f} | {found:.4f} |", flush=True)


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [1, 2, 3])

"""Captions a split of a dataset: ``python -m stages.decode <dataset> <system>``."""

from __future__ import annotations

import time
from pathlib import Path

from pipeline.config.plans import DecodingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import open_stores
from stages import paths
from stages.run import run


def main(dataset: str, system: str) -> None:
    """Writes data/predictions/<dataset>/<system>.csv, one row a clip of the plan's split."""
    plan = DecodingPlan.load(paths.PLANS / "systems" / f"{dataset}-{system}.json")
    caption(plan, paths.MODELS / "captioners", paths.PREDICTIONS, paths.MODELS / "retrievers")


def caption(plan: DecodingPlan, models: Path, predictions: Path, retrievers: Path) -> list[str]:
    """Writes ``<predictions>/<dataset>/<name>.csv``, and gives the captions.

    Args:
        models: folder of the captioners, each in a folder of its name; ``retrievers`` of those
            that rerank.
    """
    # slow imports, after what fails at once
    from pipeline.decoding.ensemble import Ensemble
    from pipeline.decoding.predictions import caption_clips, write_predictions
    from pipeline.decoding.rerank import open_reranker
    from pipeline.decoding.text_memory import open_memory
    from pipeline.device import set_up
    from pipeline.trained.captioner import load_captioner

    device = set_up(plan.hardware.device, plan.hardware.threads)
    captioners = [load_captioner(models / name, device) for name in plan.captioners]
    ensemble = Ensemble(tuple(captioners), plan.combine)
    manifest = Manifest.load(paths.CORPORA / f"{plan.dataset}.json")
    clips = [clip.clip_id for clip in manifest.recordings(plan.split)]
    stores = [open_stores(paths.FEATURES / plan.dataset, c.plan.features) for c in captioners]
    memories = [
        open_memory(plan.text_memory, c.plan, paths.CORPORA, paths.FEATURES, ensemble.device)
        for c in captioners
    ]
    reranker = open_reranker(plan.rerank, retrievers, device)
    start = time.perf_counter()
    captions = caption_clips(ensemble, stores, clips, plan.decoding, plan.name, memories, plan.seed)
    if reranker is not None:
        sound = reranker.embed_stored(paths.FEATURES / plan.dataset, clips)
        captions = reranker.choose(captions, sound, captioners[0].tokenizer)
    rate = len(clips) / (time.perf_counter() - start)
    write_predictions(predictions / plan.dataset / f"{plan.name}.csv", clips, captions)
    print(f"{plan.name} on {plan.dataset}: {len(clips)} clips, {rate:.1f} clips per second")
    return [each.text for each in captions]


if __name__ == "__main__":
    run(main)

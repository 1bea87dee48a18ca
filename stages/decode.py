"""Captions a split of a dataset: ``python -m stages.decode <dataset> <system>``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.config.plans import DecodingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import open_stores
from stages import paths
from stages.run import given, run

if TYPE_CHECKING:
    from pipeline.decoding.predict import Caption


def main(dataset: str, system: str) -> None:
    """Writes data/predictions/<dataset>/<system>.csv, a row a seed and clip of the plan's split."""
    plan = given(DecodingPlan, paths.PLANS / "systems" / f"{dataset}-{system}.json")
    manifest = Manifest.load(paths.CORPORA / f"{dataset}.json")
    clips = [clip.clip_id for clip in manifest.recordings(plan.split)]
    # slow imports, after what fails at once
    from pipeline.decoding.predictions import write_predictions

    start = time.perf_counter()
    captions = {seed: _captions(plan, seed, clips) for seed in plan.seeds}
    rate = len(clips) * len(captions) / (time.perf_counter() - start)
    write_predictions(paths.PREDICTIONS / dataset / f"{system}.csv", clips, captions)
    print(f"{system} on {dataset}: {len(clips)} clips, {rate:.1f} clips per second")


def _captions(plan: DecodingPlan, seed: int, clips: Sequence[str]) -> list[Caption]:
    """Of ``clips``, by the models that were trained with one seed."""
    from pipeline.decoding.ensemble import Ensemble
    from pipeline.decoding.predictions import caption_clips
    from pipeline.decoding.rerank import open_reranker
    from pipeline.decoding.text_memory import open_memory
    from pipeline.device import set_up
    from pipeline.trained.captioner import load_captioner

    device = set_up(plan.hardware.device, plan.hardware.threads)
    models = paths.MODELS / "captioners"
    captioners = [load_captioner(models / name / str(seed), device) for name in plan.captioners]
    ensemble = Ensemble(tuple(captioners), plan.combine)
    stores = [open_stores(paths.FEATURES / plan.dataset, c.plan.features) for c in captioners]
    memories = [
        open_memory(plan.text_memory, c.plan, paths.CORPORA, paths.FEATURES, ensemble.device)
        for c in captioners
    ]
    reranker = open_reranker(plan.rerank, paths.MODELS / "retrievers", seed, device)
    captions = caption_clips(ensemble, stores, clips, plan.decoding, plan.name, memories, seed)
    if reranker is not None:
        sound = reranker.embed_stored(paths.FEATURES / plan.dataset, clips)
        captions = reranker.choose(captions, sound, captioners[0].tokenizer)
    return captions


if __name__ == "__main__":
    run(main)

"""Captions a split of a dataset: ``python -m stages.decode <dataset> <system>``."""

from __future__ import annotations

import time

from pipeline.config.plans import DecodingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import open_stores
from stages import paths
from stages.run import run


def main(dataset: str, system: str) -> None:
    """Writes data/predictions/<dataset>/<system>.csv, a row a clip of the plan's split."""
    plan = DecodingPlan.load(paths.PLANS / "systems" / f"{dataset}-{system}.json")
    # seconds: after what fails at once
    from pipeline.decoding.ensemble import Ensemble
    from pipeline.decoding.predictions import caption_clips, write_predictions
    from pipeline.decoding.text_memory import open_memory
    from pipeline.device import set_up
    from pipeline.trained.captioner import load_captioner

    device = set_up(plan.hardware.device, plan.hardware.threads)
    folder = paths.MODELS / "captioners"
    captioners = [load_captioner(folder / name, device) for name in plan.captioners]
    ensemble = Ensemble(tuple(captioners), plan.combine)
    manifest = Manifest.load(paths.CORPORA / f"{dataset}.json")
    clips = [clip.clip_id for clip in manifest.split(plan.split)]
    own = [open_stores(paths.FEATURES / dataset, each.plan.features) for each in captioners]
    memories = [
        open_memory(plan.text_memory, each.plan, paths.CORPORA, paths.FEATURES, ensemble.device)
        for each in captioners
    ]
    began = time.perf_counter()
    captions = caption_clips(ensemble, own, clips, plan.decoding, system, memories, plan.seed)
    seconds = time.perf_counter() - began
    write_predictions(paths.PREDICTIONS / dataset / f"{system}.csv", clips, captions)
    print(f"{system} on {dataset}: {len(clips)} clips, {len(clips) / seconds:.1f} clips per second")


if __name__ == "__main__":
    run(main)

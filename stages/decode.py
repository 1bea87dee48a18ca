"""Captions a split of a dataset: ``python -m stages.decode <dataset> <system>``."""

from __future__ import annotations

import time

from pipeline.config import only_captioner
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import FeatureStore
from pipeline.plans import DecodingPlan
from stages import paths
from stages.run import run


def main(dataset: str, system: str) -> None:
    """Writes data/predictions/<dataset>/<system>.csv, a row a clip of the plan's split."""
    plan = DecodingPlan.load(paths.PLANS / "systems" / f"{dataset}-{system}.json")
    member = only_captioner(system, plan.captioners)
    from pipeline.decoding.predictions import caption_clips, write_predictions
    from pipeline.training.bundle import load_captioner  # seconds: after what fails at once

    captioner = load_captioner(paths.MODELS / "captioners" / member)
    manifest = Manifest.load(paths.CORPORA / f"{dataset}.json")
    clips = [clip.clip_id for clip in manifest.split(plan.split)]
    folder = paths.FEATURES / dataset
    stores = [FeatureStore.open(folder / f"{encoder}.h5") for encoder in captioner.plan.features]
    began = time.perf_counter()
    captions = caption_clips(captioner, stores, clips, plan.decoding)
    seconds = time.perf_counter() - began
    write_predictions(paths.PREDICTIONS / dataset / f"{system}.csv", clips, captions)
    print(f"{system} on {dataset}: {len(clips)} clips, {len(clips) / seconds:.1f} clips per second")


if __name__ == "__main__":
    run(main)

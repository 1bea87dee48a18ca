"""Trains one captioner: ``python -m stages.train_captioner <captioner>``."""

from __future__ import annotations

from pipeline.config.plans import CaptionerPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import FeatureStore, open_stores
from stages import paths
from stages.run import run


def main(captioner: str) -> None:
    """Trains what data/plans/captioners/<captioner>.json says, into data/models/captioners/."""
    plan = CaptionerPlan.load(paths.PLANS / "captioners" / f"{captioner}.json")
    from pipeline.training.cross_entropy import train_captioner

    heard = plan.sound_dataset or plan.dataset
    read = plan.features if plan.model.reads.sound else ()
    progress = train_captioner(
        plan,
        Manifest.load(paths.CORPORA / f"{plan.dataset}.json"),
        open_stores(paths.FEATURES / heard, read),
        FeatureStore.open(paths.FEATURES / plan.dataset / f"{plan.text}.h5") if plan.text else None,
        output=paths.MODELS / "captioners" / captioner,
        checkpoints=paths.CHECKPOINTS,
        sound_manifest=Manifest.load(paths.CORPORA / f"{heard}.json")
        if plan.sound_dataset
        else None,
    )
    best = f"validation CIDEr-D {progress.best_score:.3f}"
    print(f"{captioner}: {best}, the best in {progress.step} steps")


if __name__ == "__main__":
    run(main)

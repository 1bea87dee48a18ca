"""Trains one captioner: ``python -m stages.caption <captioner>``."""

from __future__ import annotations

from pipeline.corpora.manifest import Manifest
from pipeline.features.store import FeatureStore
from pipeline.plans import CaptionerPlan
from stages import paths
from stages.run import run


def main(captioner: str) -> None:
    """Trains what data/plans/captioners/<captioner>.json says, into data/models/captioners/."""
    plan = CaptionerPlan.load(paths.PLANS / "captioners" / f"{captioner}.json")
    from pipeline.training.captioning import train_captioner  # seconds: after what fails at once

    folder = paths.FEATURES / plan.dataset
    progress = train_captioner(
        plan,
        Manifest.load(paths.CORPORA / f"{plan.dataset}.json"),
        [FeatureStore.open(folder / f"{encoder}.h5") for encoder in plan.features],
        FeatureStore.open(folder / f"{plan.text}.h5", "embed") if plan.text else None,
        output=paths.MODELS / "captioners" / captioner,
        checkpoints=paths.CHECKPOINTS,
    )
    best = f"validation CIDEr-D {progress.best_score:.3f}"
    print(f"{captioner}: {best}, the best in {progress.step} steps")


if __name__ == "__main__":
    run(main)

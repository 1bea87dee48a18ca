"""Trains one captioner: ``python -m stages.train_captioner <captioner>``."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.plans import CaptionerPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import FeatureStore, open_stores
from stages import paths
from stages.run import run
from stages.tracking import tracking


def main(captioner: str) -> None:
    """Writes data/models/captioners/<captioner>/ by data/plans/captioners/<captioner>.json."""
    plan = CaptionerPlan.load(paths.PLANS / "captioners" / f"{captioner}.json")
    train(plan, paths.MODELS / "captioners", paths.CHECKPOINTS)


def train(plan: CaptionerPlan, models: Path, checkpoints: Path) -> None:
    """Trains a plan's captioner into ``<models>/<name>/``."""
    from pipeline.training.cross_entropy import train_captioner

    sound = plan.sound_dataset or plan.dataset
    features = open_stores(paths.FEATURES / sound, plan.features if plan.model.reads.sound else ())
    text = (
        FeatureStore.open(paths.FEATURES / plan.dataset / f"{plan.text}.h5") if plan.text else None
    )
    progress = train_captioner(
        plan,
        Manifest.load(paths.CORPORA / f"{plan.dataset}.json"),
        features,
        text,
        output=models / plan.name,
        checkpoints=checkpoints,
        tracking=tracking(),
        sound_manifest=(
            Manifest.load(paths.CORPORA / f"{sound}.json") if plan.sound_dataset else None
        ),
    )
    best = f"validation CIDEr-D {progress.best_score:.3f}"
    print(f"{plan.name}: {best}, the best in {progress.step} steps")


if __name__ == "__main__":
    run(main)

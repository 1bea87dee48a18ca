"""Trains one captioner once: ``python -m stages.train_captioner <captioner> <seed>``."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.plans import CaptionerPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import FeatureStore, open_stores
from stages import paths
from stages.asked import load_asked
from stages.ranks import in_ranks
from stages.run import run
from stages.tracking import tracking


def main(captioner: str, seed: int) -> None:
    """Writes data/models/captioners/<captioner>/<seed>/ by its plan in data/plans/captioners/."""
    output = paths.MODELS / "captioners" / captioner / str(seed)
    path = paths.PLANS / "captioners" / captioner / f"{seed}.json"
    plan = load_asked(CaptionerPlan, path, output)
    if plan is not None:
        in_ranks(
            plan.hardware,
            lambda: train(plan, output, paths.CHECKPOINTS),
            *("train_captioner", captioner, str(seed)),
        )


def train(plan: CaptionerPlan, output: Path, checkpoints: Path) -> None:
    """Trains a plan's captioner into the folder ``output``."""
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
        output=output,
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

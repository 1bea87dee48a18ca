"""Finetunes a captioner by rewards: ``python -m stages.finetune <name>``."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.plans import FinetuningPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import open_stores
from stages import paths
from stages.run import run
from stages.tracking import tracking


def main(name: str) -> None:
    """Writes data/models/captioners/<name>/ by data/plans/captioners/<name>.json."""
    plan = FinetuningPlan.load(paths.PLANS / "captioners" / f"{name}.json")
    train(plan, paths.MODELS / "captioners", paths.CHECKPOINTS)


def train(plan: FinetuningPlan, models: Path, checkpoints: Path) -> None:
    """Finetunes the plan's captioner, of the folder ``models``, into ``<models>/<name>/``."""
    from pipeline.trained.captioner import load_captioner
    from pipeline.training.finetuning import finetune_captioner

    progress = finetune_captioner(
        plan,
        load_captioner(models / plan.captioner, "cpu"),
        Manifest.load(paths.CORPORA / f"{plan.dataset}.json"),
        open_stores(paths.FEATURES / plan.dataset, plan.features),
        output=models / plan.name,
        checkpoints=checkpoints,
        tracking=tracking(),
    )
    best = f"validation CIDEr-D {progress.best_score:.3f}"
    print(f"{plan.name}: {best}, the best in {progress.step} steps")


if __name__ == "__main__":
    run(main)

"""Trains a captioner further by rewards: ``python -m stages.finetune <name>``."""

from __future__ import annotations

from pipeline.config.plans import FinetuningPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import open_stores
from stages import paths
from stages.run import run


def main(name: str) -> None:
    """Does what data/plans/captioners/<name>.json says, into data/models/captioners/<name>/."""
    plan = FinetuningPlan.load(paths.PLANS / "captioners" / f"{name}.json")
    from pipeline.trained.captioner import load_captioner
    from pipeline.training.finetuning import finetune_captioner

    captioners = paths.MODELS / "captioners"
    progress = finetune_captioner(
        plan,
        load_captioner(captioners / plan.captioner, "cpu"),
        Manifest.load(paths.CORPORA / f"{plan.dataset}.json"),
        open_stores(paths.FEATURES / plan.dataset, plan.features),
        output=captioners / name,
        checkpoints=paths.CHECKPOINTS,
    )
    best = f"validation CIDEr-D {progress.best_score:.3f}"
    print(f"{name}: {best}, the best in {progress.step} steps")


if __name__ == "__main__":
    run(main)

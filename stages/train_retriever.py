"""Trains one retriever: ``python -m stages.train_retriever <retriever>``."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.plans import RetrieverPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import open_stores
from stages import paths
from stages.run import run
from stages.tracking import tracking


def main(retriever: str) -> None:
    """Writes data/models/retrievers/<retriever>/ by data/plans/retrievers/<retriever>.json."""
    plan = RetrieverPlan.load(paths.PLANS / "retrievers" / f"{retriever}.json")
    train(plan, paths.MODELS / "retrievers", paths.CHECKPOINTS)


def train(plan: RetrieverPlan, models: Path, checkpoints: Path) -> None:
    """Trains a plan's retriever into ``<models>/<name>/``."""
    from pipeline.training.contrastive import train_retriever

    progress = train_retriever(
        plan,
        {dataset: Manifest.load(paths.CORPORA / f"{dataset}.json") for dataset in plan.datasets},
        {name: open_stores(paths.FEATURES / name, plan.sound.features) for name in plan.datasets},
        {name: open_stores(paths.FEATURES / name, plan.text.features) for name in plan.datasets},
        start=models / plan.start if plan.start else None,
        output=models / plan.name,
        checkpoints=checkpoints,
        tracking=tracking(),
    )
    best = f"validation mAP@10 {progress.best_score:.3f}"
    print(f"{plan.name}: {best}, the best in {progress.step} steps")


if __name__ == "__main__":
    run(main)

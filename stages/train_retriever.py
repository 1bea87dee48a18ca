"""Trains one retriever: ``python -m stages.train_retriever <retriever>``."""

from __future__ import annotations

from pipeline.config.plans import RetrieverPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import open_stores
from stages import paths
from stages.run import run


def main(retriever: str) -> None:
    """Does what data/plans/retrievers/<retriever>.json says, into data/models/retrievers/."""
    plan = RetrieverPlan.load(paths.PLANS / "retrievers" / f"{retriever}.json")
    from pipeline.training.contrastive import train_retriever

    progress = train_retriever(
        plan,
        {dataset: Manifest.load(paths.CORPORA / f"{dataset}.json") for dataset in plan.datasets},
        {name: open_stores(paths.FEATURES / name, plan.sound.features) for name in plan.datasets},
        {name: open_stores(paths.FEATURES / name, plan.text.features) for name in plan.datasets},
        start=paths.MODELS / "retrievers" / plan.start if plan.start else None,
        output=paths.MODELS / "retrievers" / retriever,
        checkpoints=paths.CHECKPOINTS,
    )
    best = f"validation mAP@10 {progress.best_score:.3f}"
    print(f"{retriever}: {best}, the best in {progress.step} steps")


if __name__ == "__main__":
    run(main)

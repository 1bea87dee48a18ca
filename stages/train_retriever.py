"""Trains one retriever: ``python -m stages.train_retriever <retriever>``."""

from __future__ import annotations

from pipeline.config.plans import RetrieverPlan
from pipeline.corpora.manifest import Manifest
from stages import paths
from stages.run import run
from stages.stores import open_store, open_text_store


def main(retriever: str) -> None:
    """Does what data/plans/retrievers/<retriever>.json says, into data/models/retrievers/."""
    plan = RetrieverPlan.load(paths.PLANS / "retrievers" / f"{retriever}.json")
    from pipeline.training.contrastive import train_retriever

    text = plan.text_features
    progress = train_retriever(
        plan,
        {dataset: Manifest.load(paths.CORPORA / f"{dataset}.json") for dataset in plan.datasets},
        {dataset: [open_store(dataset, e) for e in plan.features] for dataset in plan.datasets},
        {dataset: open_text_store(dataset, text) for dataset in plan.datasets} if text else {},
        start=paths.MODELS / "retrievers" / plan.start if plan.start else None,
        output=paths.MODELS / "retrievers" / retriever,
        checkpoints=paths.CHECKPOINTS,
    )
    best = f"validation mAP@10 {progress.best_score:.3f}"
    print(f"{retriever}: {best}, the best in {progress.step} steps")


if __name__ == "__main__":
    run(main)

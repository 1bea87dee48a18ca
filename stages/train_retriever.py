"""Trains one retriever once: ``python -m stages.train_retriever <retriever> <seed>``."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.plans import RetrieverPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import open_stores
from stages import paths
from stages.asked import load_asked
from stages.ranks import in_ranks
from stages.run import run
from stages.tracking import tracking


def main(retriever: str, seed: int, further: bool = False) -> None:
    """Writes data/models/retrievers/<retriever>/<seed>/ by its plan.

    The plan is in data/plans/retrievers/, or with --further in data/plans/adapted/.
    """
    models = paths.MODELS / "retrievers"
    output = models / retriever / str(seed)
    plans = paths.PLANS / ("adapted" if further else "retrievers")
    plan = load_asked(RetrieverPlan, plans / retriever / f"{seed}.json", output)
    if plan is not None:
        start = models / plan.start / str(seed) if plan.start else None
        in_ranks(
            plan.hardware,
            lambda: train(plan, start, output, paths.CHECKPOINTS),
            *("train_retriever", retriever, str(seed), *(["--further"] if further else [])),
        )


def train(plan: RetrieverPlan, start: Path | None, output: Path, checkpoints: Path) -> None:
    """Trains a plan's retriever into the folder ``output``; ``start``: that of the one before."""
    from pipeline.training.contrastive import train_retriever

    progress = train_retriever(
        plan,
        {dataset: Manifest.load(paths.CORPORA / f"{dataset}.json") for dataset in plan.datasets},
        {name: open_stores(paths.FEATURES / name, plan.sound.features) for name in plan.datasets},
        {name: open_stores(paths.FEATURES / name, plan.text.features) for name in plan.datasets},
        start=start,
        output=output,
        checkpoints=checkpoints,
        tracking=tracking(),
    )
    best = f"validation mAP@10 {progress.best_score:.3f}"
    print(f"{plan.name}: {best}, the best in {progress.step} steps")


if __name__ == "__main__":
    run(main)

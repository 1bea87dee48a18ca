"""Ranks a test set with all retrieval systems: ``python -m stages.rank <dataset>``."""

from __future__ import annotations

from pipeline.config.plans import RankingPlan
from pipeline.corpora.manifest import Manifest
from stages import paths
from stages.run import given, run


def main(dataset: str) -> None:
    """Writes metrics/retrieval/<dataset>/<system>.json and data/rankings/<dataset>/<system>.csv."""
    plan = given(RankingPlan, paths.PLANS / "systems" / f"rank-{dataset}.json")
    manifest = Manifest.load(paths.CORPORA / f"{dataset}.json")
    from pipeline.device import set_up
    from pipeline.trained.ranking import rank, table

    found = rank(
        plan,
        manifest,
        retrievers=paths.MODELS / "retrievers",
        features=paths.FEATURES / dataset,
        rankings=paths.RANKINGS / dataset,
        metrics=paths.METRICS / "retrieval" / dataset,
        predictions=paths.PREDICTIONS / dataset,
        device=set_up(plan.hardware.device, plan.hardware.threads),
    )
    print(table(found))


if __name__ == "__main__":
    run(main)

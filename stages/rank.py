"""Ranks a test set with all retrieval systems: ``python -m stages.rank <dataset>``."""

from __future__ import annotations

from pipeline.config.plans import RankingPlan
from pipeline.corpora.manifest import Manifest
from stages import paths
from stages.run import given, run


def main(dataset: str) -> None:
    """Writes metrics/retrieval/<dataset>/<system>.json, the means over the system's seeds; what is
    around them, intervals/retrieval/<dataset>/<system>.json; data/rankings/<dataset>/<system>.csv.
    """
    plan = given(RankingPlan, paths.PLANS / "systems" / f"rank-{dataset}.json")
    manifest = Manifest.load(paths.CORPORA / f"{dataset}.json")
    from pipeline.device import set_up
    from pipeline.metrics.tables import ScoreFolders
    from pipeline.trained.ranking import rank
    from pipeline.trained.ranking_files import table

    found, around = rank(
        plan,
        manifest,
        retrievers=paths.MODELS / "retrievers",
        features=paths.FEATURES / dataset,
        predictions=paths.PREDICTIONS / dataset,
        folders=ScoreFolders(
            paths.METRICS / "retrieval" / dataset,
            paths.INTERVALS / "retrieval" / dataset,
            paths.RANKINGS / dataset,
        ),
        device=set_up(plan.hardware.device, plan.hardware.threads),
    )
    print(table(found, around))


if __name__ == "__main__":
    run(main)

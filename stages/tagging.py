"""Trains one encoder on event labels: ``python -m stages.tagging <encoder>``."""

from __future__ import annotations

from pipeline.config.plans import TaggingPlan
from pipeline.corpora.manifest import Manifest
from stages import paths
from stages.run import given, run
from stages.tracking import tracking


def main(encoder: str) -> None:
    """Writes data/models/encoders/<encoder>/ by data/plans/tagging/<encoder>.json."""
    from pipeline.training.tagging import train_tagging

    plan = given(TaggingPlan, paths.PLANS / "tagging" / f"{encoder}.json")
    manifest = Manifest.load(paths.CORPORA / f"{plan.tagging.dataset}.json")
    precision = train_tagging(
        plan,
        manifest,
        paths.ROOT / manifest.root,
        output=paths.MODELS / "encoders" / encoder,
        checkpoints=paths.CHECKPOINTS,
        tracking=tracking(),
    )
    print(f"{encoder}: mean average precision {precision:.3f} on the validation split")


if __name__ == "__main__":
    run(main)

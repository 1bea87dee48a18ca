"""Trains one captioner: ``python -m stages.caption <captioner>``."""

from __future__ import annotations

from pipeline.corpora.manifest import Manifest
from pipeline.plans import CaptionerPlan
from stages import paths
from stages.run import run
from stages.stores import open_store, open_text_store


def main(captioner: str) -> None:
    """Trains what data/plans/captioners/<captioner>.json says, into data/models/captioners/."""
    plan = CaptionerPlan.load(paths.PLANS / "captioners" / f"{captioner}.json")
    from pipeline.training.captioning import train_captioner  # seconds: after what fails at once

    progress = train_captioner(
        plan,
        Manifest.load(paths.CORPORA / f"{plan.dataset}.json"),
        [open_store(plan.dataset, encoder) for encoder in plan.features],
        open_text_store(plan.dataset, plan.text) if plan.text else None,
        output=paths.MODELS / "captioners" / captioner,
        checkpoints=paths.CHECKPOINTS,
    )
    best = f"validation CIDEr-D {progress.best_score:.3f}"
    print(f"{captioner}: {best}, the best in {progress.step} steps")


if __name__ == "__main__":
    run(main)

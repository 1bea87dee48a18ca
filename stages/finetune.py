"""Finetunes a captioner by rewards: ``python -m stages.finetune <name> <seed>``."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.plans import FinetuningPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import open_stores
from stages import paths
from stages.asked import load_asked
from stages.ranks import in_ranks
from stages.run import run
from stages.tracking import tracking


def main(name: str, seed: int) -> None:
    """Writes data/models/captioners/<name>/<seed>/ by data/plans/finetuned/<name>/<seed>.json."""
    models = paths.MODELS / "captioners"
    output = models / name / str(seed)
    plan = load_asked(FinetuningPlan, paths.PLANS / "finetuned" / name / f"{seed}.json", output)
    if plan is not None:
        start = models / plan.captioner / str(seed)
        in_ranks(
            plan.hardware,
            lambda: train(plan, start, output, paths.CHECKPOINTS),
            *("finetune", name, str(seed)),
        )


def train(plan: FinetuningPlan, start: Path, output: Path, checkpoints: Path) -> None:
    """Finetunes the captioner in the folder ``start``, into the folder ``output``."""
    from pipeline.trained.captioner import load_captioner
    from pipeline.training.finetuning import finetune_captioner

    progress = finetune_captioner(
        plan,
        load_captioner(start, "cpu"),
        Manifest.load(paths.CORPORA / f"{plan.dataset}.json"),
        open_stores(paths.FEATURES / plan.dataset, plan.features),
        output=output,
        checkpoints=checkpoints,
        tracking=tracking(),
    )
    best = f"validation CIDEr-D {progress.best_score:.3f}"
    print(f"{plan.name}: {best}, the best in {progress.step} steps")


if __name__ == "__main__":
    run(main)

"""Stores a dataset in a retriever's space: ``python -m stages.represent <dataset> <retriever>``."""

from __future__ import annotations

from pipeline.config.plans import RepresentationPlan
from pipeline.corpora.manifest import Manifest
from pipeline.files import sha256
from stages import paths
from stages.run import run
from stages.stores import open_store, open_text_store


def main(dataset: str, retriever: str) -> None:
    """Writes data/features/<dataset>/<retriever>-sound.h5 and -text.h5."""
    plan = RepresentationPlan.load(
        paths.PLANS / "retrievers" / "representing" / f"{dataset}-{retriever}.json"
    )
    from pipeline.device import set_up
    from pipeline.trained.captioner import WEIGHTS
    from pipeline.trained.representing import represent
    from pipeline.trained.retriever import load_retriever

    device = set_up(plan.hardware.device, plan.hardware.threads)
    folder = paths.MODELS / "retrievers" / retriever
    made = represent(
        plan,
        Manifest.load(paths.CORPORA / f"{dataset}.json"),
        [open_store(dataset, feature) for feature in plan.features],
        open_text_store(dataset, plan.text_features) if plan.text_features else None,
        load_retriever(folder, device),
        sha256(folder / WEIGHTS),
        paths.FEATURES / dataset,
    )
    for side, index in made._asdict().items():
        index.save(paths.INDEX / "encoded" / dataset / f"{retriever}-{side}.json")
    print(f"{dataset}, {retriever}: {made.sound.ids} clips, {made.text.ids} captions")


if __name__ == "__main__":
    run(main)

"""Stores a trained retriever's frames: ``python -m stages.encode <dataset> <retriever>``."""

from __future__ import annotations

from pipeline.config.plans import EncodingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.files import sha256
from stages import paths
from stages.run import run
from stages.stores import open_store


def main(dataset: str, retriever: str) -> None:
    """Writes data/features/<dataset>/<retriever>.h5, as a frozen encoder's features."""
    plan = EncodingPlan.load(
        paths.PLANS / "retrievers" / "encoding" / f"{dataset}-{retriever}.json"
    )
    from pipeline.device import set_up
    from pipeline.trained.captioner import WEIGHTS
    from pipeline.trained.encoding import recode
    from pipeline.trained.retriever import load_retriever

    device = set_up(plan.hardware.device, plan.hardware.threads)
    folder = paths.MODELS / "retrievers" / retriever
    index, report = recode(
        plan,
        Manifest.load(paths.CORPORA / f"{dataset}.json"),
        open_store(dataset, plan.feature),
        load_retriever(folder, device),
        sha256(folder / WEIGHTS),
        paths.PARTIAL,
        paths.FEATURES / dataset / f"{retriever}.h5",
    )
    index.save(paths.INDEX / "encoded" / dataset / f"{retriever}.json")
    print(f"{dataset}, {retriever}: {report}")


if __name__ == "__main__":
    run(main)

"""Encodes a dataset with a trained retriever: ``python -m stages.encode <dataset> <retriever>``."""

from __future__ import annotations

from pipeline.config.plans import EncodingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import open_stores
from pipeline.files import sha256
from stages import paths
from stages.engine import engine_of
from stages.feature_files import limit_feature_files
from stages.run import given, run


def main(dataset: str, retriever: str) -> None:
    """Writes data/features/<dataset>/<retriever>/{frames,sound,text}.h5; frames if planned."""
    plan = given(EncodingPlan, paths.PLANS / "encoding" / f"{dataset}-{retriever}.json")
    from pipeline.trained.encoding import encode
    from pipeline.trained.folder import WEIGHTS
    from pipeline.trained.retriever import load_retriever

    folder = paths.MODELS / "retrievers" / retriever
    if plan.seed is not None:
        folder /= str(plan.seed)
    features = paths.FEATURES / dataset
    limit_feature_files()
    with engine_of(plan.hardware) as engine:
        trained = load_retriever(folder, engine.device)
        indexes, report = encode(
            plan,
            Manifest.load(paths.CORPORA / f"{dataset}.json"),
            open_stores(features, trained.plan.sound.features),
            open_stores(features, trained.plan.text.features),
            trained,
            sha256(folder / WEIGHTS),
            paths.PARTIAL,
            features / retriever,
            engine,
        )
    for part, index in indexes.items():
        index.save(paths.INDEX / "encoded" / dataset / retriever / f"{part}.json")
    print(f"{dataset}, {retriever}: {report}")


if __name__ == "__main__":
    run(main)

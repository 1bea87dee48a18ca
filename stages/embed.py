"""Encodes one dataset's captions: ``python -m stages.embed <dataset> <encoder>``."""

from __future__ import annotations

from pipeline.config.plans import EmbeddingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store_parts import keep_folder
from stages import paths
from stages.engine import engine_of
from stages.feature_files import limit_feature_files
from stages.run import given, run


def main(dataset: str, encoder: str) -> None:
    """Writes data/features/<dataset>/<encoder>.h5 by data/plans/extraction/."""
    from pipeline.encoders.registry import build_text_encoder, weights_digest
    from pipeline.features.embedding import embed

    plan = given(EmbeddingPlan, paths.PLANS / "extraction" / f"{dataset}-{encoder}.json")
    limit_feature_files()
    with engine_of(plan.hardware) as engine:
        index, report = embed(
            Manifest.load(paths.CORPORA / f"{dataset}.json"),
            build_text_encoder(plan.encoder, engine.device),
            weights_digest(plan.encoder),
            plan,
            paths.PARTIAL,
            paths.FEATURES / dataset / f"{encoder}.h5",
            engine,
        )
    keep_folder(paths.FEATURES / dataset / f"{encoder}.h5")
    index.save(paths.INDEX / "frozen" / dataset / f"{encoder}.json")
    print(f"{dataset}, {encoder}: {report}")


if __name__ == "__main__":
    run(main)

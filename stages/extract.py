"""Encodes one dataset's sound: ``python -m stages.extract <dataset> <encoder>``."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.plans import ExtractionPlan
from pipeline.corpora.manifest import Manifest
from pipeline.features.store_parts import keep_folder
from stages import paths
from stages.engine import engine_of
from stages.feature_files import limit_feature_files
from stages.run import given, run


def main(dataset: str, encoder: str) -> None:
    """Writes data/features/<dataset>/<encoder>.h5 by data/plans/extraction/."""
    from pipeline.encoders.registry import build_sound_encoder, weights_digest
    from pipeline.features.extraction import extract

    plan = given(ExtractionPlan, paths.PLANS / "extraction" / f"{dataset}-{encoder}.json")
    manifest = Manifest.load(paths.CORPORA / f"{dataset}.json")
    weights = Path(plan.weights) if plan.weights else None
    limit_feature_files()
    with engine_of(plan.hardware) as engine:
        index, report = extract(
            manifest,
            paths.ROOT / manifest.root,
            build_sound_encoder(plan.encoder, weights, engine.device),
            weights_digest(plan.encoder, weights),
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

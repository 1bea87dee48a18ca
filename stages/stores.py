"""The stored features that a stage reads."""

from __future__ import annotations

from pipeline.features.store import FeatureStore
from stages import paths


def open_store(dataset: str, encoder: str) -> FeatureStore:
    """A sound encoder's features, or a retriever's; a missing file is told with its stage."""
    plan = paths.PLANS / "retrievers" / "encoding" / f"{dataset}-{encoder}.json"
    stage = "encode" if plan.exists() else "extract"
    return FeatureStore.open(paths.FEATURES / dataset / f"{encoder}.h5", stage)


def open_text_store(dataset: str, encoder: str) -> FeatureStore:
    """A text encoder's features."""
    return FeatureStore.open(paths.FEATURES / dataset / f"{encoder}.h5", "embed")

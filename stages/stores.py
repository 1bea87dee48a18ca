"""The stored features that a stage reads."""

from __future__ import annotations

from pipeline.features.store import FeatureStore
from stages import paths


def open_store(dataset: str, encoder: str) -> FeatureStore:
    """A sound encoder's features, or a retriever's; a missing file is told with its stage."""
    plan = paths.PLANS / "retrievers" / "encoding" / f"{dataset}-{encoder}.json"
    stage = "encode" if plan.exists() else _represented(dataset, encoder) or "extract"
    return FeatureStore.open(paths.FEATURES / dataset / f"{encoder}.h5", stage)


def open_text_store(dataset: str, encoder: str) -> FeatureStore:
    """A text encoder's features, or a retriever's of captions."""
    stage = _represented(dataset, encoder) or "embed"
    return FeatureStore.open(paths.FEATURES / dataset / f"{encoder}.h5", stage)


def _represented(dataset: str, name: str) -> str | None:
    """``represent``, where that stage makes the features."""
    retriever, _, side = name.rpartition("-")
    plan = paths.PLANS / "retrievers" / "representing" / f"{dataset}-{retriever}.json"
    return "represent" if side in ("sound", "text") and plan.exists() else None

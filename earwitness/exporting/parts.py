"""What a trained system is made of in its repository: models, and the encoders they read by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from earwitness.captioning import CaptioningSystem
from earwitness.repository import Repository
from earwitness.retrieval import RetrievalSystem
from pipeline.config.encoders import EncoderConfig, TextEncoderConfig
from pipeline.config.plans import BiEncoderPlan, CaptionerPlan, ExtractionPlan, RetrieverPlan
from pipeline.config.sides import EncoderSoundSide, FrozenTextSide
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore
from pipeline.trained.retriever import TrainedRetriever, load_retriever


@dataclass(frozen=True)
class FrozenPart:
    """A frozen encoder, of sound or of text."""

    name: str
    settings: EncoderConfig | TextEncoderConfig
    trained: str | None = None  # the tagging stage's file, below the repository
    sha256: str | None = None  # of the weights that it was trained with; None: not known


@dataclass
class SystemParts:
    """All that a system needs, each once."""

    models: dict[Path, CaptionerPlan | BiEncoderPlan] = field(default_factory=dict)  # by folder
    extraction: dict[Path, ExtractionPlan] = field(default_factory=dict)  # by file
    frozen: list[FrozenPart] = field(default_factory=list)
    memories: list[CaptionerPlan] = field(default_factory=list)  # that have a text memory

    def add(self, part: FrozenPart) -> None:
        """A frozen encoder, once."""
        if part not in self.frozen:
            self.frozen.append(part)


def parts_of(system: CaptioningSystem | RetrievalSystem, repository: Repository) -> SystemParts:
    """The parts of a system that was loaded from ``repository``.

    Raises:
        EarwitnessError: one is not there.
    """
    found = SystemParts()
    if isinstance(system, CaptioningSystem):
        pairs = zip(system.ensemble.captioners, system.memories, strict=True)
        for captioner, memory in pairs:
            own = captioner.plan
            found.models[repository.captioner(own.name, system.seed)] = own
            for feature in own.features:
                _add_feature(found, repository, own.dataset, feature)
            if memory is not None and own not in found.memories:
                found.memories.append(own)
        if system.reranker is not None:
            _add_searching(found, repository, system.reranker.retriever, system.seed)
        return found
    for retriever in system.members:
        _add_searching(found, repository, retriever, system.seed)
    return found


def _add_searching(
    found: SystemParts, repository: Repository, retriever: TrainedRetriever, seed: int
) -> None:
    """A retriever that reads text too, and what that needs; sound is read without it."""
    folder = repository.retriever(retriever.plan.name, seed)
    _add_retriever(found, repository, folder, retriever, None)
    plan, side = retriever.plan, retriever.plan.text
    if isinstance(side, FrozenTextSide):
        dataset = plan.datasets[0] if isinstance(plan, RetrieverPlan) else None
        digest = _stored_digest(repository, dataset, side.features[0])
        found.add(FrozenPart(side.features[0], side.encoder, sha256=digest))


def _add_feature(found: SystemParts, repository: Repository, dataset: str, feature: str) -> None:
    """As :class:`earwitness.sound_features.SoundFeatures` makes it."""
    maker, _, part = feature.partition("/")
    if part:
        folder = repository.encoder(maker)
        _add_retriever(found, repository, folder, load_retriever(folder, "cpu"), dataset)
        return
    path = repository.data / f"plans/extraction/{dataset}-{feature}.json"
    if path in found.extraction:
        return
    plan = ExtractionPlan.load(path)
    found.extraction[path] = plan
    digest = _stored_digest(repository, dataset, feature)
    found.add(FrozenPart(feature, plan.encoder, plan.weights, digest))


def _add_retriever(
    found: SystemParts,
    repository: Repository,
    folder: Path,
    retriever: TrainedRetriever,
    dataset: str | None,
) -> None:
    """A retriever, and what its sound side reads: of ``dataset``, or of its own first."""
    plan = retriever.plan
    found.models[folder] = plan
    if isinstance(plan.sound, EncoderSoundSide):
        side = plan.sound
        found.add(FrozenPart(side.features[0], side.encoder, side.weights))
        return
    assert isinstance(plan, RetrieverPlan)
    for feature in plan.sound.features:
        _add_feature(found, repository, dataset or plan.datasets[0], feature)


def _stored_digest(repository: Repository, dataset: str | None, feature: str) -> str | None:
    """Of the weights that a dataset's features were made with; None where there are none."""
    path = repository.data / f"features/{dataset}/{feature}.h5"
    try:
        digest = FeatureStore.open(path).header.weights
    except EarwitnessError:
        return None
    return digest if len(digest) == 64 else None


def datasets(parts: SystemParts) -> Iterator[str]:
    """The datasets that the models learned from, and whose sound they know."""
    for plan in parts.models.values():
        match plan:
            case CaptionerPlan():
                yield plan.dataset
                yield from [plan.sound_dataset] if plan.sound_dataset else []
            case RetrieverPlan():
                yield from plan.datasets

"""What a job is given: one small file with all its settings and the fingerprints of its inputs.

A job reads its plan and nothing else of the parameters, so it is rerun exactly when its plan
changes, and the plan is the record of the run. ``stages/plan.py`` writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field

from pipeline.config.captioners import CaptionerModel
from pipeline.config.encoders import (
    EncoderConfig,
    SpecAugmentConfig,
    TaggingConfig,
    TextEncoderConfig,
)
from pipeline.config.evaluation import DecodingConfig, EvaluationConfig
from pipeline.config.hardware import DeviceConfig, HardwareConfig
from pipeline.config.prefix import TextMemoryConfig
from pipeline.config.retrievers import BiEncoderConfig, SoundTowerConfig, TextTowerConfig
from pipeline.config.section import Section, parse_section
from pipeline.config.training import RetrievalTrainingConfig, ScstConfig, TrainingConfig
from pipeline.files import read_json, write_json

P = TypeVar("P", bound="Plan")


class Plan(Section):
    """``inputs``: name → SHA-256 of each input's content. ``code``: digest of the modules used."""

    name: str
    inputs: dict[str, str]
    code: str

    def save(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls: type[P], path: Path) -> P:
        values = read_json(path, "run `dvc repro plan`")
        return parse_section(cls, values, str(path))


class ComputingPlan(Plan):
    """Compute with what is trained, or frozen, already."""

    hardware: DeviceConfig = DeviceConfig()


class TrainingPlan(Plan):
    """Train something."""

    seed: int = 1  # of all that is drawn
    hardware: HardwareConfig = HardwareConfig()


class TaggingPlan(TrainingPlan):
    """Train one encoder on a dataset's event labels; ``name`` is the encoder's."""

    encoder: EncoderConfig
    tagging: TaggingConfig


class ExtractionPlan(ComputingPlan):
    """Encode one dataset with one frozen encoder; ``name`` is the encoder's."""

    dataset: str
    encoder: EncoderConfig
    spec_augment: SpecAugmentConfig | None  # null where the encoder has no augmented views
    weights: str | None  # data/models/encoders/<name>/model.safetensors where trained here


class EmbeddingPlan(ComputingPlan):
    """Encode one dataset's captions with one frozen text encoder; ``name`` is the encoder's."""

    dataset: str
    encoder: TextEncoderConfig


class RetrieverPlan(TrainingPlan):
    """Train one retriever. Of each side either the tower or the stored features are there."""

    datasets: tuple[str, ...]
    features: tuple[str, ...]  # stored sound features: of the frozen encoders, or the tower's input
    sound: (
        SoundTowerConfig | None
    )  # the tower that is trained; null: projections of the stored features
    input: EncoderConfig | None  # the settings of the stored feature that the tower reads
    weights: (
        str | None
    )  # data/models/encoders/<name>/model.safetensors where the tower starts there
    text: TextTowerConfig | None  # the tower that is trained; null: stored text features
    text_features: str | None  # name of the stored text features, where there is no text tower
    text_encoder: TextEncoderConfig | None  # that made them
    biencoder: BiEncoderConfig
    training: RetrievalTrainingConfig
    start: (
        str | None
    )  # the retriever in data/models/retrievers that this one is trained further from


class EncodingPlan(ComputingPlan):
    """Encode one dataset's stored features with a trained retriever; ``name`` is its name."""

    dataset: str
    feature: str  # the stored feature that its tower reads


class CaptionerPlan(TrainingPlan):
    """Train one captioner."""

    dataset: str
    features: tuple[str, ...]  # stored sound features, E of them, in order
    text: str | None = None  # stored features of the captions
    sound_dataset: str | None = None  # whose sound; null: the dataset's own
    model: CaptionerModel
    training: TrainingConfig


class RepresentationPlan(ComputingPlan):
    """Put one dataset's sound and captions into a trained retriever's space."""

    dataset: str
    features: tuple[str, ...]  # stored sound features that it reads
    text_features: str | None  # stored text features that it reads, where it has no text tower


class FinetuningPlan(TrainingPlan):
    """Train one captioner further by rewards; ``name`` is the new one's."""

    captioner: str  # in data/models/captioners, where training starts
    dataset: str
    features: tuple[str, ...]
    scst: ScstConfig


class DecodingPlan(ComputingPlan):
    """Caption one split of a dataset with one system; ``name`` is the system's."""

    dataset: str
    split: str
    captioners: tuple[str, ...]
    combine: Literal["log_probs", "probs"]  # of several captioners
    decoding: DecodingConfig
    seed: int = 1  # of the method `sample`
    text_memory: TextMemoryConfig | None = None  # null: sound is read as it is


class EvaluationPlan(ComputingPlan):
    """Score all systems of a dataset, and the yardsticks; ``name`` is the dataset's."""

    systems: tuple[str, ...]
    encoders: tuple[str, ...]  # that the systems hear with, and so the nearest-clip yardstick
    evaluation: EvaluationConfig


class CaptionedSystem(Section):
    """Rank clips by the captions that a captioning system gave them."""

    captions_of: str  # data/predictions/<dataset>/<system>.csv
    text: str  # name of the stored text features of the queries
    encoder: TextEncoderConfig  # that made them, and embeds the captions


class RankingPlan(ComputingPlan):
    """Rank a split's clips by its captions, and the other way; ``name`` is the dataset's."""

    split: str
    systems: dict[str, tuple[str, ...]]  # retrieval system → its retrievers
    captioned: dict[str, CaptionedSystem] = Field(default_factory=dict)  # that rank by captions

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
from pipeline.config.evaluation import DecodingConfig, EvaluationConfig, RerankConfig
from pipeline.config.feature_files import PlannedStore
from pipeline.config.fields import Seed, Seeds
from pipeline.config.hardware import DeviceConfig, HardwareConfig
from pipeline.config.prefix import TextMemoryConfig
from pipeline.config.retrievers import BiEncoderConfig
from pipeline.config.section import Section, parse_section
from pipeline.config.sides import EncoderSoundSide, FrozenTextSides, SoundSide, TextSide
from pipeline.config.training import RetrievalTrainingConfig, ScstConfig, TrainingConfig
from pipeline.errors import EarwitnessError
from pipeline.files import read_json, write_json

P = TypeVar("P", bound="Plan")


class Plan(Section):
    """``inputs``: path → SHA-256 of each input's content. ``code``: digest of each module used."""

    name: str
    inputs: dict[str, str]
    code: dict[str, str]

    def save(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls: type[P], path: Path, hint: str = "run `dvc repro plan`") -> P:
        """What :meth:`save` wrote; ``hint`` says what to run when it is missing or broken.

        Raises:
            EarwitnessError: so it is, or another version of earwitness wrote it.
        """
        values = read_json(path, hint)
        try:
            return parse_section(cls, values, "its settings")
        except EarwitnessError as error:
            raise EarwitnessError(f"{path}: of another version ({error}); {hint}") from None


class ComputingPlan(Plan):
    """Compute with what is trained, or frozen, already."""

    hardware: DeviceConfig = DeviceConfig()


class TrainingPlan(Plan):
    """Train something."""

    seed: Seed = 1  # of all that is drawn
    hardware: HardwareConfig = HardwareConfig()


class UnaskedPlan(Plan):
    """Train nothing, as no system asks for this model with this seed."""

    unasked: Literal[True] = True


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
    store: PlannedStore = "float16"


class EmbeddingPlan(ComputingPlan):
    """Encode one dataset's captions with one frozen text encoder; ``name`` is the encoder's."""

    dataset: str
    encoder: TextEncoderConfig
    store: PlannedStore = "float16"


class BiEncoderPlan(TrainingPlan):
    """What embeds sound and text in one space."""

    sound: SoundSide
    text: TextSide
    biencoder: BiEncoderConfig


class SpacePlan(BiEncoderPlan):
    """Make one space, of which nothing is trained."""

    sound: EncoderSoundSide
    text: FrozenTextSides
    widths: tuple[int, int]  # of the sound's features, and of the text's


class RetrieverPlan(BiEncoderPlan):
    """Train one retriever."""

    datasets: tuple[str, ...]
    training: RetrievalTrainingConfig
    # the retriever in data/models/retrievers that this one is trained further from; of a seed, that
    # of the same seed
    start: str | None


class EncodingPlan(ComputingPlan):
    """Encode one dataset's sound and captions with a trained retriever; ``name`` is its name."""

    dataset: str
    frames: bool  # its tower's frames too
    seed: Seed | None = None  # of the retriever; null: a space, which is not trained
    store: PlannedStore = "float16"  # of frames alone


class CaptionerPlan(TrainingPlan):
    """Train one captioner."""

    dataset: str
    features: tuple[str, ...]  # stored sound features, E of them, in order
    text: str | None = None  # stored features of the captions
    sound_dataset: str | None = None  # whose sound; null: the dataset's own
    model: CaptionerModel
    training: TrainingConfig


class FinetuningPlan(TrainingPlan):
    """Train one captioner further by rewards; ``name`` is the new one's."""

    captioner: str  # in data/models/captioners, where training starts, with the same seed
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
    seeds: Seeds = (1,)  # of the captioners, and of the method `sample`
    text_memory: TextMemoryConfig | None = None  # null: sound is read as it is
    rerank: RerankConfig | None = None  # null: the likeliest hypothesis is the caption


class EvaluationPlan(ComputingPlan):
    """Score all systems of a dataset, and the yardsticks; ``name`` is the dataset's."""

    systems: tuple[str, ...]
    seeds: dict[str, Seeds]  # of each system
    seed: Seed = 1  # of what is made once, the yardsticks
    encoders: tuple[str, ...]  # of the systems' features, which the nearest-clip yardstick reads
    evaluation: EvaluationConfig


class CaptionedSystem(Section):
    """Rank clips by the captions that a captioning system gave them."""

    captions_of: str  # data/predictions/<dataset>/<system>.csv
    text: str  # name of the stored text features of the queries
    encoder: TextEncoderConfig  # that made them, and embeds the captions


class RankingPlan(ComputingPlan):
    """Rank a split's clips by its captions, and the other way; ``name`` is the dataset's."""

    split: str
    ties: Literal["last", "listed"] = "last"
    resamples: int = 2000  # for intervals
    systems: dict[str, tuple[str, ...]]  # retrieval system → its retrievers
    spaces: tuple[str, ...] = ()  # those of the retrievers that are not trained, and have no seed
    seeds: dict[str, Seeds]  # of each system, those that rank by captions too
    seed: Seed = 1  # of what is made once, the yardstick
    captioned: dict[str, CaptionedSystem] = Field(default_factory=dict)  # that rank by captions

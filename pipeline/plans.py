"""What a job is given: one small file with all its settings and the fingerprints of its inputs.

A job reads its plan and nothing else of the parameters, so it is rerun exactly when its plan
changes, and the plan is the record of the run. ``stages/plan.py`` writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pipeline.config import (
    Bart,
    Decoding,
    Encoder,
    Evaluation,
    FeatureInput,
    Fuser,
    Section,
    SpecAugment,
    Tagging,
    TextEncoder,
    Training,
    Translator,
    Twin,
    parse_section,
)
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


class TaggingPlan(Plan):
    """Train one encoder on a dataset's event labels; ``name`` is the encoder's."""

    encoder: Encoder
    tagging: Tagging


class ExtractionPlan(Plan):
    """Encode one dataset with one frozen encoder; ``name`` is the encoder's."""

    dataset: str
    encoder: Encoder
    spec_augment: SpecAugment | None  # null where the encoder has no augmented views
    weights: str | None  # data/models/encoders/<name>/model.safetensors where trained here


class EmbeddingPlan(Plan):
    """Encode one dataset's captions with one frozen text encoder; ``name`` is the encoder's."""

    dataset: str
    encoder: TextEncoder


class CaptionerPlan(Plan):
    """Train one captioner. A module that the captioner does not use is null here."""

    architecture: str
    dataset: str
    features: tuple[str, ...]  # sound encoders, E of them, in order
    text: str | None  # text encoder of the twin's branch
    input: FeatureInput
    fuser: Fuser | None
    translator: Translator | None
    twin: Twin | None
    bart: Bart
    training: Training


class DecodingPlan(Plan):
    """Caption one split of a dataset with one system; ``name`` is the system's."""

    dataset: str
    split: str
    captioners: tuple[str, ...]
    decoding: Decoding


class EvaluationPlan(Plan):
    """Score all systems of a dataset, and the yardsticks; ``name`` is the dataset's."""

    systems: tuple[str, ...]
    encoders: tuple[str, ...]  # that the systems hear with, and so the nearest-clip yardstick
    evaluation: Evaluation

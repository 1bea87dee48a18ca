"""All of ``params.yaml``: its sections together, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config.captioners import CaptionerConfig, CaptionerSections, FinetunedConfig
from pipeline.config.datasets import DatasetConfig
from pipeline.config.encoders import EncoderConfig, TaggingConfig, TextEncoderConfig
from pipeline.config.evaluation import DecodingConfig, EvaluationConfig, SystemConfig
from pipeline.config.hardware import HardwareConfig
from pipeline.config.names import check_names
from pipeline.config.retrievers import (
    AdaptedConfig,
    BiEncoderConfig,
    RetrievalSystemConfig,
    RetrieverConfig,
    SoundTowerConfig,
    TextTowerConfig,
)
from pipeline.config.rlssr import RlssrCaptionerConfig
from pipeline.config.section import parse_section
from pipeline.config.training import RetrievalTrainingConfig, ScstConfig, TrainingConfig
from pipeline.errors import EarwitnessError


class Params(CaptionerSections):
    """All of ``params.yaml``."""

    seed: int = 1  # of all that is drawn, but for the corpus of `soundscapes`, which has its own
    hardware: HardwareConfig = HardwareConfig()
    datasets: dict[str, DatasetConfig]
    encoders: dict[str, EncoderConfig]
    text_encoders: dict[str, TextEncoderConfig] = Field(default_factory=dict)
    tagging: TaggingConfig = TaggingConfig()
    sound_towers: dict[str, SoundTowerConfig] = Field(default_factory=dict)
    text_towers: dict[str, TextTowerConfig] = Field(default_factory=dict)
    biencoder: BiEncoderConfig = BiEncoderConfig()
    retrieval_training: RetrievalTrainingConfig = RetrievalTrainingConfig()
    retrievers: dict[str, RetrieverConfig] = Field(default_factory=dict)
    adapted: dict[str, AdaptedConfig] = Field(default_factory=dict)
    # retrievers that become encoders: <name>/frames, <name>/sound and <name>/text are stored
    encoded: tuple[str, ...] = ()
    training: dict[str, TrainingConfig] = Field(default_factory=dict)
    captioners: dict[str, CaptionerConfig] = Field(default_factory=dict)
    scst: ScstConfig = ScstConfig()
    finetuned: dict[str, FinetunedConfig] = Field(default_factory=dict)
    decoding: DecodingConfig = DecodingConfig()
    systems: dict[str, SystemConfig] = Field(default_factory=dict)
    retrieval_systems: dict[str, RetrievalSystemConfig] = Field(default_factory=dict)
    test_sets: tuple[str, ...] = ()  # that `systems` caption
    retrieval_test_sets: tuple[str, ...] = ()  # that `retrieval_systems` rank
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def sound_features(self) -> tuple[str, ...]:
        """Stored features of sound, by name: of encoders, and of encoded retrievers."""
        frames = (f"{name}/frames" for name in self.encoded if self.has_frames(name))
        return (*self.encoders, *frames, *(f"{name}/sound" for name in self.encoded))

    @property
    def text_features(self) -> tuple[str, ...]:
        """Stored features of captions, by name: of text encoders, and of encoded retrievers."""
        return (*self.text_encoders, *(f"{name}/text" for name in self.encoded))

    def has_frames(self, retriever: str) -> bool:
        """Whether it trains a tower over one stored feature."""
        tower = self.sound_towers.get(self.base_retriever(retriever).sound[0])
        return tower is not None and len(tower.inputs) == 1

    @property
    def all_retrievers(self) -> dict[str, RetrieverConfig | AdaptedConfig]:
        """Of both kinds, by name."""
        return {**self.retrievers, **self.adapted}

    @property
    def all_captioners(self) -> dict[str, CaptionerConfig | FinetunedConfig]:
        """Of both kinds, by name."""
        return {**self.captioners, **self.finetuned}

    def base_retriever(self, name: str) -> RetrieverConfig:
        """The retriever that an adapted one began as; a retriever itself."""
        adapted = self.adapted.get(name)
        return self.retrievers[adapted.retriever if adapted else name]

    def base_captioner(self, name: str) -> CaptionerConfig:
        """The captioner that a finetuned one began as; a captioner itself."""
        finetuned = self.finetuned.get(name)
        return self.captioners[finetuned.captioner if finetuned else name]

    def heard(self, name: str) -> tuple[str, ...]:
        """The stored sound features that a captioner reads, a finetuned one too, in order."""
        captioner = self.base_captioner(name)
        if isinstance(captioner, RlssrCaptionerConfig):
            return (self.sound_towers[captioner.tower].input,)
        return captioner.features

    @model_validator(mode="after")
    def _names(self) -> Params:
        check_names(self)
        return self


def parse_params(values: Any, source: str = "params.yaml") -> Params:
    """The typed parameters.

    Raises:
        EarwitnessError: one line with the place, what is wrong and, for an unknown key, the
            nearest known one.
    """
    return parse_section(Params, values, source)


def load_params(path: Path) -> Params:
    """Reads ``params.yaml`` as YAML 1.2: YAML 1.1 reads DVC's ``1e-05`` as text."""
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EarwitnessError(f"{path}: not there; run from the repository's root") from None
    except (YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise EarwitnessError(f"{path}: not YAML ({line})") from None
    return parse_params(values, str(path))


def with_settings(params: Params, settings: Mapping[str, Any], source: str) -> Params:
    """``params`` with dotted settings such as ``{"training.epochs": 30}`` put over them."""
    values = params.model_dump(mode="json")
    for dotted, value in settings.items():
        at: Any = values
        *parents, last = dotted.split(".")
        for parent in parents:
            at = at.get(parent) if isinstance(at, dict) else None
        if not isinstance(at, dict) or last not in at:
            raise EarwitnessError(f"{source}: no parameter {dotted}")
        at[last] = value
    return parse_params(values, source)

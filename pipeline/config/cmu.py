"""Section ``cmu``, and the captioner that reads it: DCASE 2022's baseline and its variants."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.bart import BartConfig, BartSections
from pipeline.config.captioner_base import (
    BaseCaptionerConfig,
    BaseModelConfig,
    FindTower,
    Resolved,
)
from pipeline.config.crnn import CrnnConfig
from pipeline.config.fields import SOUND, Names, Ref
from pipeline.config.section import Section
from pipeline.config.tokens import SubwordsConfig


class CmuConfig(Section):
    """What stands around BART, whose sizes are the section ``bart`` (CMU 5.1, 6.1)."""

    adapter_layers: int = Field(1, ge=1, le=2)  # CMU 5.1; 6.1.3: 2
    adapter_width: int = Field(384, ge=8)  # between the two layers, CMU's code
    adapter_activation: Literal["relu", "none"] = "relu"  # between the two, the baseline's code
    encoder: Literal["bart", "crnn"] = "bart"  # crnn: in place of BART's own (CMU 6.1.1)
    # what the decoder reads of BART's encoder: its last hidden state, the mean of all, of which
    # the embedding is the first, or of the last two (CMU 6.1.2)
    memory: Literal["last", "mean", "last_two"] = "last"
    crnn: CrnnConfig = CrnnConfig()  # CMU Figure 1: that of the retrieval baseline

    @model_validator(mode="after")
    def _consistent(self) -> CmuConfig:
        if self.encoder == "crnn" and self.memory != "last":
            raise ValueError(f"memory: {self.memory} is of BART's encoder; set encoder: bart")
        return self


class CmuSections(BartSections):
    cmu: CmuConfig = Field(CmuConfig(), description="what stands around BART in CMU's captioner")


class CmuModelConfig(BaseModelConfig):
    architecture: Literal["cmu"] = "cmu"
    bart: BartConfig
    cmu: CmuConfig


class CmuCaptionerConfig(BaseCaptionerConfig):
    """The baseline and every variant of CMU's tables, which are settings of ``cmu``."""

    sections: ClassVar = tuple(CmuSections.model_fields)

    architecture: Literal["cmu"]
    # read at their own length; each but the first is resized to the frames of the first
    features: Annotated[Names, Ref(*SOUND)] = Field(min_length=1)

    def resolve(self, params: CmuSections, tower: FindTower) -> Resolved[CmuModelConfig]:
        bart = params.bart
        subwords = SubwordsConfig(
            vocabulary=bart.vocabulary,
            pretrained=bart.pretrained or bart.tokenizer,
            section="bart",
            longest=bart.max_tokens,
            punctuation=bart.punctuation,
        )
        return Resolved(self.features, CmuModelConfig(tokens=subwords, bart=bart, cmu=params.cmu))

"""Sections ``prefix`` and ``text_memory``: WSAC, text-only training (Kouzelis & Katsouros 2023)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.captioner_base import (
    BaseCaptionerConfig,
    BaseModelConfig,
    FindTower,
    Resolved,
)
from pipeline.config.fields import SOUND, TEXT, Names, Outside, Ref, check_heads
from pipeline.config.reads import Moment, ReadsConfig
from pipeline.config.section import Section
from pipeline.config.tokens import Punctuation, SubwordsConfig


class PrefixConfig(Section):
    """An embedding as a prefix of a GPT-style decoder.

    ``pretrained``: a GPT-2 by hub name or path; null trains one of these sizes from scratch.
    """

    pretrained: Annotated[str | None, Outside()] = None  # WSAC 4.2: from scratch
    vocabulary: int = Field(3000, ge=64)  # subwords trained on the captions; code: BERT's 30,522
    # inside captions (at their end it is never learned; WSAC's code: there too): tokens like others
    # (WSAC's code), or none of it
    punctuation: Punctuation = "inside"
    mapping_layers: int = Field(2, ge=1)  # WSAC 4.2: a 2-layered MLP; code: 1, linear
    mapping_width: int = Field(768, ge=8)  # of its hidden layers (ours)
    prefix_length: int = Field(1, ge=1)  # tokens that the embedding becomes; WSAC's code
    layers: int = Field(4, ge=1)  # WSAC 4.2
    heads: int = Field(4, ge=1)  # WSAC 4.2
    width: int = Field(768, ge=8)  # WSAC 4.2
    dropout: float = Field(0.1, ge=0, lt=1)  # GPT-2's
    max_tokens: int = Field(22, ge=4)  # of a caption in training; WSAC's code
    # σ, added to the captions' embeddings in training (3.1.1); the paper's variance is 0.013.
    # captions: the mean L∞ distance of two captions of a clip, over 50 clips
    noise: Annotated[float, Field(gt=0)] | Literal["captions"] | None = None
    shift: bool = False  # the gap between both means is added to them (3.1.2)
    renormalise: bool = False  # to unit length after noise and shift; WSAC's code: true
    supervised: bool = False  # trains on the sound's embeddings: the tables' upper bound
    # what the best epoch is chosen by: captions of sound, or captions of captions (4.1: no sound)
    validation: Literal["sound", "text"] = "sound"

    @model_validator(mode="after")
    def _consistent(self) -> PrefixConfig:
        if self.pretrained is None:
            check_heads(self.width, self.heads)
        if self.supervised and (self.noise is not None or self.shift):
            raise ValueError("supervised: true trains on sound; set noise: null and shift: false")
        return self


class TextMemoryConfig(Section):
    """How a prefix captioner reads sound: as it is, or through its training captions (3.2)."""

    method: Literal["none", "nearest", "projection"] = "none"  # nearest: NND; projection: PD
    temperature: float = Field(0.01, gt=0)  # τ of eq. 5; WSAC's code


class PrefixSections(Section):
    prefix: PrefixConfig = Field(PrefixConfig(), description="WSAC's captioner")
    text_memory: TextMemoryConfig = Field(
        TextMemoryConfig(), description="of the captions that WSAC learned, when it decodes"
    )


class PrefixModelConfig(BaseModelConfig):
    architecture: Literal["prefix"] = "prefix"
    prefix: PrefixConfig


class PrefixCaptionerConfig(BaseCaptionerConfig):
    """WSAC and every row of its Table 1; ``dataset`` gives the captions."""

    sections: ClassVar = tuple(PrefixSections.model_fields)

    architecture: Literal["prefix"]
    # of the sound, in one space with `text`; naming `text` itself captions captions
    features: Annotated[Names, Ref(*SOUND, *TEXT)] = Field(min_length=1, max_length=1)
    text: Annotated[str, Ref(*TEXT)]  # the captions' embeddings, one each
    # whose sound gives shift's mean, and the validation split; null: the dataset's own
    sound_dataset: Annotated[str | None, Ref("datasets")] = None

    def resolve(self, params: PrefixSections, tower: FindTower) -> Resolved[PrefixModelConfig]:
        own = params.prefix
        sound: list[Moment] = []
        text: list[Moment] = []
        (sound if own.supervised else text).append("batches")
        if own.shift:
            sound.append("calibration")
        (sound if own.validation == "sound" else text).append("validation")
        model = PrefixModelConfig(
            tokens=SubwordsConfig(
                vocabulary=own.vocabulary,
                pretrained=own.pretrained,
                section="prefix",
                longest=own.max_tokens,
                punctuation=own.punctuation,
            ),
            reads=ReadsConfig(sound=tuple(sound), text=tuple(text)),
            prefix=own,
        )
        return Resolved(self.features, model, text=self.text, sound_dataset=self.sound_dataset)

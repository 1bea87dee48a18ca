"""Sections ``features``, ``fuser``, ``translator`` and ``twin``, and EDTC, which reads them."""

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
from pipeline.config.fields import SOUND, Names, Ref, When
from pipeline.config.reads import ReadsConfig
from pipeline.config.section import Section
from pipeline.config.tokens import SubwordsConfig


class FeatureInputConfig(Section):
    """The one shape that every stored feature takes in a captioner."""

    frames: int = Field(32, ge=1)  # EDTC 3.1.1
    width: int = Field(768, ge=8)  # EDTC 3.1.1
    resize: Literal["interpolate", "project"] = "interpolate"  # of the width; project is learned
    normalise: bool = True  # a layer norm for each encoder: stored scales differ (ours)
    time_masks: int = Field(0, ge=0)  # masking of stored frames in training (SpecAugment after)
    time_width: Annotated[float, When("time_masks")] = Field(0.1, ge=0, le=1)
    channel_masks: int = Field(0, ge=0)
    channel_width: Annotated[float, When("channel_masks")] = Field(0.1, ge=0, le=1)


class FuserConfig(Section):
    layers: int = Field(3, ge=0)  # L, EDTC 3.2.2
    heads: int = Field(8, ge=1)
    kernel: int = Field(7, ge=1)  # of CFB's convolution, EDTC 3.2.2
    reduced: int = Field(256, ge=1)  # SFEB: 768 → 256 → 768, EDTC 3.2.2
    feed_forward: int = Field(3072, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)


class TranslatorConfig(Section):
    encoder_layers: int = Field(3, ge=1)  # M, EDTC 3.3.2
    decoder_layers: int = Field(2, ge=1)  # N, EDTC 3.3.2
    kernel: int = Field(45, ge=1)  # EDTC 3.3.2
    heads: int = Field(8, ge=1)
    feed_forward: int = Field(3072, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)


CLIP = When("loss", "clip")


class TwinConfig(Section):
    momentum: float = Field(0.95, ge=0, le=1)  # β, EDTC eq. 4
    loss: Literal["clip", "infonce"] = "clip"  # EDTC eq. 5–7, and the ablation's InfoNCE
    weight: float = Field(1.0, ge=0)  # of L_cl in eq. 8
    temperature: Annotated[float, CLIP] = Field(1.0, gt=0)  # eq. 5–6 have none: 1
    # of clip's dot products: eq. 5–6 have none; 1 / √D keeps the softmax soft at any width (ours)
    normalise: Annotated[Literal["none", "width", "cosine"], CLIP] = "width"
    # MoCo, which EDTC cites for InfoNCE [28]
    infonce_temperature: Annotated[float, When("loss", "infonce")] = Field(0.07, gt=0)


class EdtcSections(BartSections):
    features: FeatureInputConfig = Field(
        FeatureInputConfig(), description="the one shape that stored features take in EDTC"
    )
    fuser: FuserConfig = Field(FuserConfig(), description="of EDTC")
    translator: TranslatorConfig = Field(TranslatorConfig(), description="of EDTC")
    twin: TwinConfig = Field(TwinConfig(), description="of EDTC")


class EdtcModelConfig(BaseModelConfig):
    """What an entry switches off is null."""

    architecture: Literal["edtc"] = "edtc"
    input: FeatureInputConfig
    fuser: FuserConfig | None
    translator: TranslatorConfig | None
    twin: TwinConfig | None
    bart: BartConfig


class EdtcCaptionerConfig(BaseCaptionerConfig):
    """EDTC and every row of its ablation (Table 2)."""

    sections: ClassVar = tuple(EdtcSections.model_fields)

    architecture: Literal["edtc"]
    # the same may stand three times
    features: Annotated[Names, Ref(*SOUND)] = Field(min_length=1)
    # token-level, of the twin's text branch
    text: Annotated[str | None, Ref("text_encoders")] = None
    fuser: bool = True
    translator: bool = True
    twin: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> EdtcCaptionerConfig:
        if len(self.features) > 1 and not self.fuser:
            raise ValueError("several features need fuser: true")
        if self.twin and not self.translator:
            raise ValueError("twin: true needs translator: true (EDTC 4.5)")
        if self.twin and self.text is None:
            raise ValueError("twin: true needs text: the name of a text encoder")
        return self

    def resolve(self, params: EdtcSections, tower: FindTower) -> Resolved[EdtcModelConfig]:
        bart = params.bart
        model = EdtcModelConfig(
            tokens=SubwordsConfig(
                vocabulary=bart.vocabulary,
                pretrained=bart.pretrained or bart.tokenizer,
                section="bart",
                longest=bart.max_tokens,
                punctuation=bart.punctuation,
            ),
            reads=ReadsConfig(text=("batches",) if self.twin else ()),
            input=params.features,
            fuser=params.fuser if self.fuser else None,
            translator=params.translator if self.translator else None,
            twin=params.twin if self.twin else None,
            bart=bart,
        )
        return Resolved(self.features, model, text=self.text if self.twin else None)

"""Sections ``captioners`` and ``finetuned``: one table of all architectures' settings."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.config.cmu import CmuCaptionerConfig, CmuModelConfig, CmuSections
from pipeline.config.edtc import EdtcCaptionerConfig, EdtcModelConfig, EdtcSections
from pipeline.config.fields import Changes, Ref, SeedOffset, When
from pipeline.config.prefix import PrefixCaptionerConfig, PrefixModelConfig, PrefixSections
from pipeline.config.rlssr import RlssrCaptionerConfig, RlssrModelConfig, RlssrSections
from pipeline.config.section import Section
from pipeline.config.seq2seq import Seq2SeqCaptionerConfig, Seq2SeqModelConfig, Seq2SeqSections

CaptionerConfig = Annotated[
    EdtcCaptionerConfig
    | Seq2SeqCaptionerConfig
    | RlssrCaptionerConfig
    | PrefixCaptionerConfig
    | CmuCaptionerConfig,
    Field(discriminator="architecture"),
]
CaptionerModel = Annotated[
    EdtcModelConfig | Seq2SeqModelConfig | RlssrModelConfig | PrefixModelConfig | CmuModelConfig,
    Field(discriminator="architecture"),
]


class CaptionerSections(EdtcSections, Seq2SeqSections, CmuSections, RlssrSections, PrefixSections):
    """The sections of ``params.yaml`` that captioners read."""


class FinetunedConfig(Section):
    """A trained captioner, trained further by rewards (SJTU 2.1)."""

    sections: ClassVar = ("scst",)
    captioner: Annotated[str, Ref("captioners")]
    seed_offset: Annotated[SeedOffset, When("seed_offset")] = 0
    set: Changes = Field(default_factory=dict)

"""Section ``seq2seq``, and SJTU's captioner, which reads it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.captioner_base import (
    BaseCaptionerConfig,
    BaseModelConfig,
    FindTower,
    Resolved,
)
from pipeline.config.fields import SOUND, Names, Ref, check_heads
from pipeline.config.section import Section
from pipeline.config.tokens import WordsConfig


class Seq2SeqConfig(Section):
    """BiGRU encoder, then a Transformer or a GRU decoder over words (SJTU 2.1, Table 1)."""

    feature_dropout: float = Field(0.2, ge=0, lt=1)  # SJTU's code: it stays on in the frozen CNN
    encoder_layers: int = Field(3, ge=1)  # SJTU Table 1
    encoder_width: int = Field(256, ge=4)  # of each direction, SJTU Table 1
    encoder_dropout: float = Field(0.5, ge=0, lt=1)  # SJTU's code
    decoder: Literal["transformer", "gru"] = "transformer"
    decoder_layers: int = Field(2, ge=1)  # SJTU Table 1: 2 or 4; the GRU 1
    width: int = Field(256, ge=8)  # SJTU Table 1: 256; the GRU 512
    heads: int = Field(4, ge=1)  # SJTU's code; of the Transformer
    feed_forward: int = Field(1024, ge=1)  # SJTU's code; of the Transformer
    dropout: float = Field(0.2, ge=0, lt=1)  # SJTU's code; of the decoder
    min_count: int = Field(1, ge=1)  # of a word in the training captions, SJTU's code
    max_words: int = Field(20, ge=1)  # SJTU's code

    @model_validator(mode="after")
    def _heads(self) -> Seq2SeqConfig:
        if self.decoder == "transformer":
            check_heads(self.width, self.heads)
        return self


class Seq2SeqSections(Section):
    seq2seq: Seq2SeqConfig = Field(Seq2SeqConfig(), description="SJTU's captioner")


class Seq2SeqModelConfig(BaseModelConfig):
    architecture: Literal["seq2seq"] = "seq2seq"
    seq2seq: Seq2SeqConfig


class Seq2SeqCaptionerConfig(BaseCaptionerConfig):
    """SJTU's captioner (2.1); its variants are settings of ``seq2seq``."""

    sections: ClassVar = tuple(Seq2SeqSections.model_fields)

    architecture: Literal["seq2seq"]
    features: Annotated[Names, Ref(*SOUND)] = Field(min_length=1, max_length=1)

    def resolve(self, params: Seq2SeqSections, tower: FindTower) -> Resolved[Seq2SeqModelConfig]:
        own = params.seq2seq
        words = WordsConfig(min_count=own.min_count, longest=own.max_words + 2)
        return Resolved(self.features, Seq2SeqModelConfig(tokens=words, seq2seq=own))

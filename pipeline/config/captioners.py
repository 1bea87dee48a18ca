"""Sections ``features`` to ``seq2seq``, ``captioners`` and ``finetuned``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.captioner_base import BaseCaptionerConfig
from pipeline.config.cmu import CmuCaptionerConfig
from pipeline.config.fields import SOUND, Names, Ref, When
from pipeline.config.prefix import PrefixCaptionerConfig
from pipeline.config.rlssr import RlssrCaptionerConfig
from pipeline.config.section import Section
from pipeline.config.tokens import Subwords, WritesWords


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


class BartConfig(Section):
    """``pretrained``: a hub name or a path; null trains one of these sizes from scratch."""

    pretrained: str | None = "facebook/bart-base"  # EDTC 3.1.3
    vocabulary: int = Field(3000, ge=64)  # subwords of the tokenizer trained on the captions
    # a BART's own by hub name or path, in the place of that one (CMU 5.1); null: as said above
    tokenizer: str | None = None
    encoder_layers: int = Field(6, ge=0)  # EDTC 3.1.3
    decoder_layers: int = Field(6, ge=1)  # EDTC 3.1.3
    heads: int = Field(12, ge=1)
    width: int = Field(768, ge=8)
    feed_forward: int = Field(3072, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    max_tokens: int = Field(64, ge=4)  # longer captions are cut in training (ours)

    @property
    def tokens(self) -> Subwords:
        return Subwords(self.vocabulary, self.pretrained or self.tokenizer, "bart")


class Seq2SeqConfig(WritesWords, Section):
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


class EdtcCaptionerConfig(BaseCaptionerConfig):
    """EDTC and every row of its ablation (Table 2)."""

    sections: ClassVar = ("features", "fuser", "translator", "twin", "bart")
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


class Seq2SeqCaptionerConfig(BaseCaptionerConfig):
    """SJTU's captioner (2.1); its variants are settings of ``seq2seq``."""

    sections: ClassVar = ("seq2seq",)
    architecture: Literal["seq2seq"]
    features: Annotated[Names, Ref(*SOUND)] = Field(min_length=1, max_length=1)


CaptionerConfig = Annotated[
    EdtcCaptionerConfig
    | Seq2SeqCaptionerConfig
    | RlssrCaptionerConfig
    | PrefixCaptionerConfig
    | CmuCaptionerConfig,
    Field(discriminator="architecture"),
]


class FinetunedConfig(Section):
    """A trained captioner, trained further by rewards (SJTU 2.1)."""

    sections: ClassVar = ("scst",)
    captioner: Annotated[str, Ref("captioners")]
    set: dict[str, Any] = Field(default_factory=dict)

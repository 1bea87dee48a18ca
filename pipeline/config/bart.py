"""Section ``bart``, the decoder that EDTC and CMU's captioner share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from pipeline.config.fields import Outside, check_heads
from pipeline.config.section import Section
from pipeline.config.tokens import Punctuation


class BartConfig(Section):
    """``pretrained``: a hub name or a path; null trains one of these sizes from scratch."""

    pretrained: Annotated[str | None, Outside()] = "facebook/bart-base"  # EDTC 3.1.3
    vocabulary: int = Field(3000, ge=64)  # subwords of the tokenizer trained on the captions
    # a BART's own by hub name or path, in the place of that one (CMU 5.1); null: as said above
    tokenizer: Annotated[str | None, Outside()] = None
    # inside captions (at their end it is never learned): tokens like others (ours; EDTC does not
    # say), or none of it, as DCASE 2022's baseline, whose numbers CMU's are
    punctuation: Punctuation = "inside"
    encoder_layers: int = Field(6, ge=0)  # EDTC 3.1.3
    decoder_layers: int = Field(6, ge=1)  # EDTC 3.1.3
    heads: int = Field(12, ge=1)
    width: int = Field(768, ge=8)
    feed_forward: int = Field(3072, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    max_tokens: int = Field(64, ge=4)  # longer captions are cut in training (ours)

    @model_validator(mode="after")
    def _heads(self) -> BartConfig:
        if self.pretrained is None:
            check_heads(self.width, self.heads)
        return self


class BartSections(Section):
    bart: BartConfig = Field(
        BartConfig(), description="pretrained: null trains one of these sizes from scratch"
    )

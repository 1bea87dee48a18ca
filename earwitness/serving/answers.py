"""What the API answers, as OpenAPI describes it."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from earwitness.serving import spectrogram
from pipeline.decoding.attention import Attention

Probability = Annotated[float, Field(description="of the whole caption, by the captioner")]


@dataclass(frozen=True)
class ErrorAnswer:
    error: Annotated[str, Field(description="one line: what, where, and what to do")]


@dataclass(frozen=True)
class CandidateAnswer:
    text: str
    probability: Probability
    log_prob: Annotated[float | None, Field(description="its natural logarithm; null: minus ∞")]


@dataclass(frozen=True)
class HitAnswer:
    """A file of the index."""

    name: Annotated[str, Field(description="below the indexed folder")]
    score: Annotated[float, Field(description="similarity; more is better")]
    url: Annotated[str | None, Field(description="of its sound, on this server")]
    start: Annotated[float | None, Field(description="of the moment, in seconds")] = None
    end: float | None = None


@dataclass(frozen=True)
class HitsAnswer:
    hits: list[HitAnswer]


@dataclass(frozen=True)
class SpectrogramAnswer:
    """A log-mel spectrogram: 255 is the loudest, 0 is 80 dB below it."""

    columns: Annotated[int, Field(description="evenly spaced over the sound")]
    mels: Annotated[int, Field(description="bands, from 0 Hz up")]
    highest_hz: float
    levels: Annotated[str, Field(description="base64 of one byte a value, column by column")]


@dataclass(frozen=True)
class AttentionAnswer:
    """How much the decoder read from each part of the sound when it chose a word."""

    words: list[str]
    weights: Annotated[
        list[list[float]], Field(description="a row a word: of equal parts of the time")
    ]


@dataclass(frozen=True)
class CaptionAnswer(CandidateAnswer):
    file: Annotated[str, Field(description="as it was named by the client")]
    seconds: float
    unsure: Annotated[
        bool | None,
        Field(description="less likely than nearly all captions of test sounds; null: not known"),
    ]
    candidates: Annotated[list[CandidateAnswer], Field(description="others, the likeliest first")]
    spectrogram: SpectrogramAnswer | None = None
    attention: AttentionAnswer | None = None
    similar: Annotated[list[HitAnswer], Field(description="like it in the index")] = field(
        default_factory=list
    )


@dataclass(frozen=True)
class HealthAnswer:
    status: str
    system: str
    indexed: Annotated[int | None, Field(description="files of the index; null: there is none")]
    moments: Annotated[bool, Field(description="whether moments of long files can be found")]
    busy: Annotated[int, Field(description="requests that wait or are worked on")]
    upload_bytes: int
    longest_minutes: float


def candidate(text: str, log_prob: float) -> CandidateAnswer:
    return CandidateAnswer(text, math.exp(log_prob), log_prob if math.isfinite(log_prob) else None)


def spectrogram_answer(levels: NDArray[np.uint8]) -> SpectrogramAnswer:
    """Of (columns, mels) levels."""
    columns, mels = levels.shape
    text = base64.b64encode(levels.tobytes()).decode("ascii")
    return SpectrogramAnswer(columns, mels, spectrogram.RATE / 2, text)


def attention_answer(found: Attention) -> AttentionAnswer:
    return AttentionAnswer([*found.words], found.weights.astype(float).round(4).tolist())

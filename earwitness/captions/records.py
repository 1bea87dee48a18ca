"""The captions of one sound file as they are written down, and read again by the next run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat

from earwitness.captions.recordings import CaptionedSound, CaptionedWindow


class CandidateRecord(BaseModel):
    """One hypothesis of a window."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    caption: str
    log_prob: FiniteFloat  # natural logarithm, of all tokens and the end of the sentence
    share: FiniteFloat  # its probability over the sum of all that the search found

    @property
    def probability(self) -> float:
        """By the model, among all sentences."""
        return math.exp(min(self.log_prob, 0.0))


class WindowRecord(BaseModel):
    """A window of a sound, or all of it; in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    start: FiniteFloat
    end: FiniteFloat
    unsure: bool | None
    candidates: tuple[CandidateRecord, ...]  # best first, at least one


class SoundRecord(BaseModel):
    """A sound, its caption or the line merged of its windows', and the windows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    file: str
    seconds: FiniteFloat
    caption: str
    windows: tuple[WindowRecord, ...]  # at least one

    @property
    def is_cut(self) -> bool:
        return len(self.windows) > 1

    def named(self, file: str) -> SoundRecord:
        return self if file == self.file else self.model_copy(update={"file": file})


def record(file: str, sound: CaptionedSound) -> SoundRecord:
    windows = tuple(_window(segment) for segment in sound.windows)
    return SoundRecord(
        file=file, seconds=round(sound.seconds, 3), caption=one_line(sound.text), windows=windows
    )


def _window(segment: CaptionedWindow) -> WindowRecord:
    best = segment.caption
    found = [(best.text, best.log_prob), *best.candidates]
    return WindowRecord(
        start=round(segment.start, 3),
        end=round(segment.end, 3),
        unsure=best.unsure,
        candidates=tuple(
            CandidateRecord(caption=one_line(text), log_prob=round(value, 4), share=round(share, 4))
            for (text, value), share in zip(found, shares([v for _, v in found]), strict=True)
        ),
    )


def shares(log_probs: Sequence[float]) -> list[float]:
    """Each probability over the sum of all."""
    highest = max(log_probs)
    values = [math.exp(value - highest) for value in log_probs]
    return [value / sum(values) for value in values]


def one_line(text: str) -> str:
    """A caption without line ends, which a table or a subtitle could not hold."""
    return " ".join(text.split())


def as_json(sound: SoundRecord, candidates: int) -> dict[str, Any]:
    """What the formats json and jsonl have of a sound.

    ``windows`` is empty where the caption is of the whole sound; where it is merged of several
    windows, only those have probabilities.
    """
    whole = {"file": sound.file, "seconds": sound.seconds, "caption": sound.caption}
    if not sound.is_cut:
        return {**whole, **_judged(sound.windows[0], candidates), "windows": []}
    unknown = {"log_prob": None, "probability": None, "unsure": None}
    windows = [
        {
            "start": own.start,
            "end": own.end,
            "caption": own.candidates[0].caption,
            **_judged(own, candidates),
        }
        for own in sound.windows
    ]
    return {**whole, **unknown, "windows": windows}


def _judged(window: WindowRecord, candidates: int) -> dict[str, Any]:
    best = window.candidates[0]
    found: dict[str, Any] = {
        "log_prob": best.log_prob,
        "probability": rounded(best.probability),
        "unsure": window.unsure,
    }
    if candidates > 1:
        found["candidates"] = [
            {**each.model_dump(), "probability": rounded(each.probability)}
            for each in window.candidates[:candidates]
        ]
    return found


def rounded(probability: float) -> float:
    """Four digits of it."""
    return float(f"{probability:.4g}")

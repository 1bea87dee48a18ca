"""Section ``report``: how much the page of a run shows."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.section import Section


class ReportConfig(Section):
    """Of data/report.html."""

    # clips of each test set whose attention is shown, from those that systems disagree on most to
    # those that they agree on
    attention_clips: int = Field(24, ge=0, le=10_000)
    # of recordings inside the page, as Ogg Vorbis; the rest is linked, from the page's own folder
    audio_megabytes: float = Field(20.0, ge=0, le=2000)

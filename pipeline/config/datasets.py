"""Sections ``datasets``: one class a layout."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.section import Section
from pipeline.limits import LONGEST_MINUTES


class SoundscapesDatasetConfig(Section):
    """The synthesised default corpus; see pipeline/corpora/soundscapes.py."""

    layout: Literal["soundscapes"]
    seed: int = 7  # the corpus is the same to the byte for a seed
    development: int = Field(1200, ge=1)  # clips in each split
    validation: int = Field(120, ge=1)
    evaluation: int = Field(200, ge=1)
    sample_rate: int = Field(16000, ge=8000)  # Hz
    seconds: tuple[float, float] = (4.0, 8.0)  # a clip's duration is drawn between these
    max_events: int = Field(3, ge=1)  # foreground events a clip, at most
    bad_audio: Literal["refuse", "skip"] = "refuse"


class ClothoDatasetConfig(Section):
    """Any folder in Clotho's layout: ``<split>/*`` and ``clotho_captions_<split>.csv``."""

    layout: Literal["clotho"]
    root: str  # folder, relative to the repository or absolute
    bad_audio: Literal["refuse", "skip"] = "skip"  # a file that cannot be decoded: stop, or list it
    longest_minutes: float = Field(LONGEST_MINUTES, gt=0)  # a longer file is not decoded
    fetch: bool = False  # download Clotho v2.1 from Zenodo into root when it is not there


class AudioCapsDatasetConfig(Section):
    """AudioCaps' CSV layout: ``<split>.csv`` and ``<split>/<name>.wav``."""

    layout: Literal["audiocaps"]
    root: str
    bad_audio: Literal["refuse", "skip"] = "skip"
    longest_minutes: float = Field(LONGEST_MINUTES, gt=0)


class MacsDatasetConfig(Section):
    """MACS (Martin & Mesaros 2021): ``MACS.yaml`` beside the sound of TAU Urban Acoustic Scenes."""

    layout: Literal["macs"]
    root: str
    bad_audio: Literal["refuse", "skip"] = "skip"
    longest_minutes: float = Field(LONGEST_MINUTES, gt=0)


class CaptionsDatasetConfig(Section):
    """Captions without sound, one CSV file a split: for text-only training (WSAC)."""

    layout: Literal["captions"]
    root: str
    development: str  # file below root, with file_name, and caption or caption_1 …
    validation: str | None = None
    evaluation: str | None = None


DatasetConfig = Annotated[
    SoundscapesDatasetConfig
    | ClothoDatasetConfig
    | AudioCapsDatasetConfig
    | MacsDatasetConfig
    | CaptionsDatasetConfig,
    Field(discriminator="layout"),
]

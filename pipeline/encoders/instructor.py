"""INSTRUCTOR (Su et al. 2023): a sentence-transformers model that reads an instruction too."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.encoders import InstructorEncoderConfig
from pipeline.encoders import sentence
from pipeline.encoders.sources import Hub

HUB = Hub(repository="hkunlp/instructor-base")


def build(
    settings: InstructorEncoderConfig, location: Path, device: str
) -> sentence.SentenceTextEncoder:
    """The encoder; its prompt is ``settings.instruction``, whose tokens are left out."""
    return sentence.build(settings, location, device)

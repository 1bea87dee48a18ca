"""INSTRUCTOR (Su et al. 2023): a sentence-transformers model told in words what to embed for."""

from __future__ import annotations

from pipeline.config.encoders import InstructorEncoderConfig
from pipeline.encoders.sentence import SentenceTextEncoder
from pipeline.encoders.sentence import build as build_sentence


def build(settings: InstructorEncoderConfig, device: str) -> SentenceTextEncoder:
    """The encoder; its prompt is ``settings.instruction``, whose tokens are left out."""
    return build_sentence(settings, device)

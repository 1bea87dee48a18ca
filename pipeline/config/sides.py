"""The two sides of a retriever, as a plan holds them: a trained tower, or stored features.

``features``: the stored features that a side reads, by name, in order.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.encoders import EncoderConfig, TextEncoderConfig
from pipeline.config.retrievers import SoundTowerConfig, TextTowerConfig
from pipeline.config.section import Section


class SoundTowerSide(Section):
    """A tower that is trained over stored features."""

    kind: Literal["tower"] = "tower"
    features: tuple[str, ...]  # the one whose frames are the tower's first
    tower: SoundTowerConfig
    input: EncoderConfig  # the settings of the first feature; its front end is the tower's
    weights: str | None  # of the encoder that the tower starts as, where the tagging stage made it


class StoredSoundSide(Section):
    """The features of frozen encoders; a projection of their means is all that is trained."""

    kind: Literal["stored"] = "stored"
    features: tuple[str, ...] = Field(min_length=1)


class TextTowerSide(Section):
    """A tower that is trained over tokens."""

    kind: Literal["tower"] = "tower"
    features: tuple[()] = ()
    tower: TextTowerConfig


class StoredTextSide(Section):
    """The features of a frozen text encoder."""

    kind: Literal["stored"] = "stored"
    features: tuple[str]
    encoder: TextEncoderConfig  # that made them, and encodes queries


SoundSide = Annotated[SoundTowerSide | StoredSoundSide, Field(discriminator="kind")]
TextSide = Annotated[TextTowerSide | StoredTextSide, Field(discriminator="kind")]

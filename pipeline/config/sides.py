"""The two sides of a retriever, as a plan holds them: a trained tower, or stored features.

The sides of a space, of which nothing is trained, hold their encoders' settings themselves.

``features``: the stored features that a side reads, by name, in order.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.encoders import EncoderConfig, TextEncoderConfig
from pipeline.config.retrievers import SoundTowerConfig, TextTowerConfig
from pipeline.config.section import Section
from pipeline.config.spaces import TagsConfig


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


class EncoderSoundSide(Section):
    """One frozen encoder as it is, or the tags that it gives."""

    kind: Literal["encoder"] = "encoder"
    features: tuple[str]
    encoder: EncoderConfig
    weights: str | None  # of the encoder, where the tagging stage made it
    tags: TagsConfig | None  # null: the encoder's own embedding


class TextTowerSide(Section):
    """A tower that is trained over tokens."""

    kind: Literal["tower"] = "tower"
    features: tuple[()] = ()
    tower: TextTowerConfig


class FrozenTextSide(Section):
    """The features of a frozen text encoder."""

    features: tuple[str]
    encoder: TextEncoderConfig  # that made them, and encodes queries


class StoredTextSide(FrozenTextSide):
    kind: Literal["stored"] = "stored"


class CentredTextSide(FrozenTextSide):
    """Less a mean: the text of a tag space."""

    kind: Literal["centred"] = "centred"


FrozenTextSides = Annotated[StoredTextSide | CentredTextSide, Field(discriminator="kind")]
SoundSide = Annotated[
    SoundTowerSide | StoredSoundSide | EncoderSoundSide, Field(discriminator="kind")
]
TextSide = Annotated[TextTowerSide | StoredTextSide | CentredTextSide, Field(discriminator="kind")]

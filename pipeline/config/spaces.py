"""Section ``spaces``: sound and text in one space, of which nothing is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.fields import Names, Outside, Ref
from pipeline.config.section import Section


class TagsConfig(Section):
    """How a clip's tags become one embedding (ours).

    A tag's place e is the mean of its name's embedding and of its descriptions', of length 1; m is
    ``centre``. A clip is the x that best gives back its tags' weights w = p^(1 / temperature), p
    their probabilities, scaled to length 1: of least Σ (w − x · (e − m))² + λ |x|², where λ is
    ``ridge`` times the mean over dimensions of Σ (e − m)². So tags that mean nearly the same do not
    count twice (as the classes of Romera-Paredes & Torr 2015). Without ``ridge`` it is the sum
    Σ w (e − m). A caption is its embedding less m, scaled to length 1. Nothing but
    the names and what is written of them is needed to make the space.
    """

    temperature: float = Field(2.0, gt=0)  # 1: the probabilities as they are; 2: their roots
    top: int | None = Field(None, ge=1)  # so many of a clip's most probable tags; null: all
    # what is embedded of a name, which stands for {}; of several the mean
    templates: tuple[str, ...] = Field(("{}",), min_length=1)
    # a table with label and caption_1 …: what each kind sounds like (Pratt et al. 2023); a name
    # that it lacks stands for itself
    descriptions: Annotated[str | None, Outside()] = None
    centre: Literal["labels", "none"] = "labels"  # the mean of the tags' places, or nothing
    ridge: float | None = Field(0.5, gt=0)  # null: the plain sum

    @model_validator(mode="after")
    def _filled(self) -> TagsConfig:
        for template in self.templates:
            if template.count("{}") != 1 or {"{", "}"} & {*template.replace("{}", "")}:
                raise ValueError(f"templates: {template!r}: put one {{}} where the name stands")
        return self


class BaseSpaceConfig(Section):
    sound: Annotated[Names, Ref("encoders")] = Field(min_length=1, max_length=1)
    text: Annotated[str, Ref("text_encoders")]


class ClapSpaceConfig(BaseSpaceConfig):
    """A CLAP as it is: its sound side and its text side."""

    module: Literal["clap"]


class TagSpaceConfig(TagsConfig, BaseSpaceConfig):
    """Any tagger with named classes as the sound side, any sentence encoder as the text side.

    ``sound``: an encoder that gives class probabilities, such as ``onnx`` with ``output:
    probabilities`` and ``labels``.
    """

    module: Literal["tags"]


SpaceConfig = Annotated[ClapSpaceConfig | TagSpaceConfig, Field(discriminator="module")]

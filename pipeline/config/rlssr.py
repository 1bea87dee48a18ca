"""Section ``rlssr``, and the captioner that reads it (Koh et al. 2022)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.captioner_base import (
    BaseCaptionerConfig,
    BaseModelConfig,
    FindTower,
    Resolved,
)
from pipeline.config.encoders import SpecAugmentConfig
from pipeline.config.fields import Ref, check_heads
from pipeline.config.retrievers import TowerSetupConfig
from pipeline.config.section import Section
from pipeline.config.tokens import WordsConfig


class ReconstructionConfig(Section):
    """The RLSSR module: the text's latent space is to give the sound's (RLSSR 3.3)."""

    # l2 is the squared distance, as torch's losses have it; RLSSR 3.3: l1 and l2 are the best
    distance: Literal["none", "l1", "l2", "cosine", "huber"] = "l1"
    weight: float = Field(1.0, ge=0)  # β of eq. 2; RLSSR 4.2: both are weighted equally
    # the decoder layer whose states are pooled, from 1; null is the last (RLSSR 3.3). The author
    # wrote later that place and weight had been searched
    place: int | None = Field(None, ge=1)
    stop_gradient: bool = False  # keeps its gradient out of the CNN; eq. 1 says nothing of it


class RlssrConfig(Section):
    """CNN10, a Transformer encoder and a Transformer decoder over words (RLSSR 3)."""

    encoder_layers: int = Field(2, ge=0)  # RLSSR 3.1; 0: without the Transformer encoder (5.1)
    decoder_layers: int = Field(2, ge=1)  # RLSSR 3.2
    width: int = Field(192, ge=8)  # RLSSR 3.1, 3.2
    heads: int = Field(4, ge=1)  # ours
    feed_forward: int = Field(768, ge=1)  # ours: four times the width, as Vaswani et al. 2017
    dropout: float = Field(0.1, ge=0, lt=1)  # ours, as Vaswani et al. 2017
    min_count: int = Field(1, ge=1)  # of a word in the training captions (ours)
    max_words: int = Field(30, ge=1)  # longer captions are cut in training (ours)
    spec_augment: bool = True  # on the fly, by the section `spec_augment`; RLSSR 4.2
    cross_entropy_weight: float = Field(1.0, ge=0)  # α of eq. 2; RLSSR 4.2
    reconstruction: ReconstructionConfig = ReconstructionConfig()

    @model_validator(mode="after")
    def _consistent(self) -> RlssrConfig:
        check_heads(self.width, self.heads)
        place, layers = self.reconstruction.place, self.decoder_layers
        if place is not None and place > layers:
            raise ValueError(f"reconstruction.place {place} is not in 1 to decoder_layers {layers}")
        if self.reconstruction.distance == "none" and not self.cross_entropy_weight:
            raise ValueError("cross_entropy_weight 0 and distance none: there is nothing to learn")
        return self


class RlssrSections(Section):
    rlssr: RlssrConfig = Field(RlssrConfig(), description="RLSSR's captioner")
    spec_augment: SpecAugmentConfig = Field(
        SpecAugmentConfig(), description="masks on spectrograms: of views, and of rlssr's batches"
    )


class RlssrModelConfig(BaseModelConfig):
    architecture: Literal["rlssr"] = "rlssr"
    rlssr: RlssrConfig
    tower: TowerSetupConfig
    spec_augment: SpecAugmentConfig | None  # of each batch in training; null: off


class RlssrCaptionerConfig(BaseCaptionerConfig):
    """A sound tower, trained end to end from a stored log-mel; variants are settings of `rlssr`."""

    sections: ClassVar = tuple(RlssrSections.model_fields)

    architecture: Literal["rlssr"]
    tower: Annotated[str, Ref("sound_towers")]  # a panns one; its `input` is the stored log-mel

    def resolve(self, params: RlssrSections, tower: FindTower) -> Resolved[RlssrModelConfig]:
        own, setup = params.rlssr, tower(self.tower)
        model = RlssrModelConfig(
            tokens=WordsConfig(min_count=own.min_count, longest=own.max_words + 2),
            rlssr=own,
            tower=setup,
            spec_augment=params.spec_augment if own.spec_augment else None,
        )
        return Resolved((setup.settings.input,), model, tower=setup)

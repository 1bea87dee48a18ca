"""What every entry of ``captioners`` has, whatever its architecture, and what it is resolved to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import Field

from pipeline.config.fields import Changes, Ref, SeedOffset, When
from pipeline.config.reads import ReadsConfig
from pipeline.config.retrievers import TowerSetupConfig
from pipeline.config.section import Section
from pipeline.config.tokens import TokensConfig


class BaseModelConfig(Section):
    """All that builds the network of one architecture, and what it reads and writes."""

    tokens: TokensConfig
    reads: ReadsConfig = ReadsConfig()


class BaseCaptionerConfig(Section):
    """An entry. Each architecture's has a method ``resolve``, the one place that says what it reads
    of the other sections: all that it returns is written into the plan.
    """

    sections: ClassVar[tuple[str, ...]]  # of params.yaml, that it reads

    # trained on its development split, chosen on its validation split
    dataset: Annotated[str, Ref("datasets")]
    training: Annotated[str, Ref("training")]
    # added to each of `seeds`: so an ensemble has several of one kind
    seed_offset: Annotated[SeedOffset, When("seed_offset")] = 0
    # dotted settings of this captioner alone, over the shared sections: {bart.dropout: 0.2}
    set: Changes = Field(default_factory=dict)


M = TypeVar("M", bound=BaseModelConfig, covariant=True)


class Resolved(NamedTuple, Generic[M]):
    """What an entry comes to."""

    features: tuple[str, ...]  # stored sound features, E of them, in order
    model: M
    text: str | None = None  # stored features of the captions
    sound_dataset: str | None = None  # whose sound; null: that of the captions' own dataset
    tower: TowerSetupConfig | None = None  # of the model, where it trains one


FindTower = Callable[[str], TowerSetupConfig]  # by its name in `sound_towers`

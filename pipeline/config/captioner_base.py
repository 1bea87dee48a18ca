"""What every entry of ``captioners`` has, whatever its architecture."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pipeline.config.fields import Ref
from pipeline.config.section import Section


class BaseCaptionerConfig(Section):
    # trained on its development split, chosen on its validation split
    dataset: Annotated[str, Ref("datasets")]
    training: Annotated[str, Ref("training")]
    # dotted settings of this captioner alone, over the shared sections: {bart.dropout: 0.2}
    set: dict[str, Any] = Field(default_factory=dict)

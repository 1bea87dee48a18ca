"""Section ``feature_files``: how features lie on the disk."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import Names, Ref
from pipeline.config.section import Section

StoredAs = Literal["float16", "int8"]  # of a frame's values; int8 has a scale a frame beside it
# of a plan, which is as it always was where it is float16
PlannedStore = Annotated[StoredAs, Field(exclude_if="float16".__eq__)]


class FeatureFilesConfig(Section):
    """Of all that ``extract``, ``embed`` and ``encode`` write from now on."""

    # a larger file is cut: the rest of its frames lie in further files, in <encoder>.parts beside
    # it. It changes no value, so it makes no features anew
    max_gigabytes: float = Field(100.0, gt=0, le=1e6)
    # encoders whose frames are stored in 8 bits a value, with a scale a frame (ours)
    int8: Annotated[Names, Ref("encoders", "text_encoders", "encoded/frames")] = ()

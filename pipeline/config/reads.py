"""Which stored features the training of a captioner reads."""

from __future__ import annotations

from typing import Literal

from pipeline.config.section import Section

# in every batch; once, of all clips that are trained on; of the clips that are captioned to
# choose the best epoch
Moment = Literal["batches", "calibration", "validation"]


class ReadsConfig(Section):
    """When each is read; a feature that is never read is not opened."""

    sound: tuple[Moment, ...] = ("batches", "validation")  # of each clip
    text: tuple[Moment, ...] = ()  # of each caption

"""SPIDEr (Liu et al. 2017): the mean of CIDEr-D and SPICE."""

from __future__ import annotations

import numpy as np

from pipeline.metrics.types import ClipScores, averaged


def spider(cider_d: ClipScores, spice: ClipScores) -> ClipScores:
    """The mean of both, of each clip and of the corpus; a clip that lacks one of them has NaN."""
    clips = (cider_d.clips + spice.clips) / 2
    if np.isnan(clips).any():
        return averaged(clips)  # both terms of the corpus are of the same clips
    return ClipScores((cider_d.corpus + spice.corpus) / 2, clips)

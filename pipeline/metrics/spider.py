"""SPIDEr (Liu et al. 2017): the mean of CIDEr-D and SPICE."""

from __future__ import annotations

import numpy as np

from pipeline.metrics.types import ClipScores, averaged


def spider(cider_d: ClipScores, spice: ClipScores) -> ClipScores:
    """The mean of both, of each clip and of the corpus; a clip that lacks one of them has NaN."""
    clips = (cider_d.clips + spice.clips) / 2
    half = np.where(np.isnan(clips), 0.0, 0.5)
    if np.isnan(clips).any():  # both terms of the corpus are of the same clips
        return averaged(clips)._replace(cider_d=half)
    return ClipScores((cider_d.corpus + spice.corpus) / 2, clips, cider_d=half)

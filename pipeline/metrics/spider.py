"""SPIDEr (Liu et al. 2017): the mean of CIDEr-D and SPICE."""

from __future__ import annotations

from pipeline.metrics.types import ClipScores


def spider(cider_d: ClipScores, spice: ClipScores) -> ClipScores:
    """The mean of both, of each clip and of the corpus."""
    return ClipScores((cider_d.corpus + spice.corpus) / 2, (cider_d.clips + spice.clips) / 2)

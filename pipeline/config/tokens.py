"""Which tokens a captioner writes, as its section of the parameters says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple


class Words(NamedTuple):
    """Those of the training captions."""

    min_count: int  # how often a word must stand in them


class Subwords(NamedTuple):
    """Those of a BPE trained on the captions, or of a pretrained model."""

    vocabulary: int  # of the BPE
    pretrained: str | None  # hub name or path of a model's own, in its place
    section: str  # of the parameters, for the error's sake


class WritesWords:
    """A section whose captioner writes words."""

    if TYPE_CHECKING:  # each section has them as fields of its own
        min_count: int
        max_words: int

    @property
    def max_tokens(self) -> int:
        return self.max_words + 2

    @property
    def tokens(self) -> Words:
        return Words(self.min_count)

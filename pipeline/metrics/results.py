"""The scores of several systems, and what is missing of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.metrics.resampling import Measured
from pipeline.metrics.types import (
    ClipScores,
    Found,
    ScoredSet,
    Sums,
    Values,
    mean_sums,
    pairs_of,
)


@dataclass
class Scores:
    """One system's values by metric."""

    corpus: dict[str, float]  # N and the vocabulary's size too
    clips: dict[str, Values] = field(default_factory=dict)  # (N,) each
    sums: dict[str, Sums] = field(default_factory=dict)  # of each of ``clips``
    cider_d: dict[str, Values] = field(default_factory=dict)  # (N,) see ClipScores
    tokens: ScoredSet | None = None  # what they are of

    def put(self, name: str, scores: ClipScores) -> None:
        self.corpus[name] = scores.corpus
        self.clips[name] = scores.clips
        self.sums[name] = mean_sums(scores.clips) if scores.sums is None else scores.sums
        if scores.cider_d is not None:
            self.cider_d[name] = scores.cider_d

    def get(self, name: str) -> ClipScores:
        own = (self.clips[name], self.sums[name], self.cider_d.get(name))
        return ClipScores(self.corpus[name], *own)

    def measured(self) -> Measured:
        """As they are resampled."""
        return Measured(self.sums, self.cider_d, self.tokens, self.clips.get("cider_d"))


@dataclass
class Evaluated:
    scores: dict[str, Scores]  # by system
    missing: dict[str, str]  # metric that was left out → why
    incomplete: dict[str, str]  # metric that some clips lack → which, and why
    tokenizer: str  # the one that made the tokens

    def put_found(self, metric: str, tokens: Mapping[str, ScoredSet], found: Found) -> None:
        """Every system's score as ``metric``; of what lacks it, which clips and why.

        A system some of whose clips lack it gets their number without those: ``spice_clips``.
        """
        lacking = []
        for system, chosen in tokens.items():
            scores = self.scores[system]
            rows = enumerate(pairs_of(chosen), start=1)
            unscored = [(row, found.unscored[pair]) for row, pair in rows if pair in found.unscored]
            made = len(chosen.candidates) - len(unscored)
            if made:
                scores.put(metric, found.scores[system])
            if unscored:
                scores.corpus[f"{metric}_clips"] = made
                more = f", and {len(unscored) - 1} more" if len(unscored) > 1 else ""
                lacking.append(f"{system} clip {unscored[0][0]} ({unscored[0][1]}){more}")
        if lacking:
            anywhere = any(metric in scores.clips for scores in self.scores.values())
            where = self.incomplete if anywhere else self.missing
            where[metric] = f"not of {'; '.join(lacking)}"

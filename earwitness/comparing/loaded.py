"""What is compared: systems' scores of the same clips, with the same seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from earwitness.comparing.sources import Source
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError
from pipeline.metrics.intervals import Scored


class ComparedSystem(NamedTuple):
    """One system at one time."""

    source: Source
    system: str

    @property
    def label(self) -> str:
        """As it is shown: ``edtc``, or ``edtc @ HEAD~1``."""
        label = self.source.label
        return f"{self.system} @ {label}" if label else self.system

    def manifest(self, dataset: str, lacks: str) -> Manifest:
        """Of a test set that can be scored.

        Args:
            lacks: what a blind one is without.

        Raises:
            EarwitnessError: it is not there, or the test set is blind.
        """
        path = self.source.path(f"data/corpora/{dataset}.json", f"prepare@{dataset}")
        manifest = Manifest.load(path)
        if manifest.blind:
            raise EarwitnessError(f"{dataset}: a blind set, without {lacks}; name another dataset")
        return manifest


@dataclass(frozen=True)
class Loaded:
    """All sides, by label and seed; texts are for people."""

    systems: Mapping[str, Mapping[int, Scored]]
    clips: list[str]  # N ids
    seeds: list[int]
    warnings: list[str]
    said: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # label → clip → caption
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by clip

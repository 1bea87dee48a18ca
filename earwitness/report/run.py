"""A run's results where the report looks for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.config.params import Params
from pipeline.corpora.manifest import Clip, Manifest


@dataclass(frozen=True)
class Run:
    """``root`` is the working copy; ``original`` the repository that holds what DVC does not track.

    They differ in the copies that ``dvc exp run --queue`` makes: raw sound is in the original.
    """

    root: Path
    original: Path
    params: Params

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics"

    @property
    def intervals(self) -> Path:
        return self.root / "intervals"

    @cached_property
    def manifests(self) -> dict[str, Manifest]:
        """Of the datasets that are captioned or searched, those that are prepared."""
        names = dict.fromkeys((*self.params.test_sets, *self.params.retrieval_test_sets))
        paths = {name: self.data / "corpora" / f"{name}.json" for name in names}
        return {name: Manifest.load(path) for name, path in paths.items() if path.is_file()}

    def clips(self, dataset: str) -> Sequence[Clip]:
        """The recordings of a test set, in the manifest's order."""
        return self.manifests[dataset].recordings(self.params.evaluation.split)

    def tables(self, kind: str, dataset: str, order: Iterable[str]) -> dict[str, Path]:
        """System → ``data/<kind>/<dataset>/<system>.csv``, those in ``order`` first."""
        found = {path.stem: path for path in sorted((self.data / kind / dataset).glob("*.csv"))}
        first = {name: found[name] for name in order if name in found}
        return {**first, **found}

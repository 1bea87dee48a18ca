"""What planning reads, and the digests that plans are made of.

Inputs are named by their paths below the repository, so that the graph of data can be read from the
plans (earwitness/graph.py); weights from elsewhere are named by what ``params.yaml`` says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pipeline.config.hardware import DeviceConfig
from pipeline.config.params import Params
from pipeline.config.plans import Plan
from pipeline.config.retrievers import SoundTowerConfig
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError
from pipeline.files import read_json, sha256
from pipeline.outside.digests import Digests
from pipeline.outside.named import named_files
from pipeline.planning.code import code_digests

P = TypeVar("P", bound=Plan)

# registries import every entry; a job names the one that it uses
REGISTRIES = frozenset(
    f"pipeline.{name}"
    for name in ("encoders.registry", "models.captioners", "models.towers.registry")
)
MODELS = "data/models"
SOUND = ("clip_id", "path", "duration", "digest")  # what features of a clip depend on


class Manifests(Mapping[str, Manifest]):
    """By dataset, as ``prepare`` wrote them; each is read when it is first asked for.

    Most phases read few of them, and some none: a large one takes seconds.
    """

    def __init__(self, root: Path, datasets: Iterable[str]) -> None:
        self._root, self._datasets = root, tuple(datasets)
        self._read: dict[str, Manifest] = {}

    def __getitem__(self, dataset: str) -> Manifest:
        if dataset not in self._datasets:
            raise KeyError(dataset)
        if dataset not in self._read:
            self._read[dataset] = Manifest.load(self._root / corpus(dataset))
        return self._read[dataset]

    def __iter__(self) -> Iterator[str]:
        return iter(self._datasets)

    def __len__(self) -> int:
        return len(self._datasets)


@dataclass(frozen=True)
class Context:
    """The parameters, and what is made so far."""

    params: Params
    manifests: Mapping[str, Manifest]  # by dataset
    code_root: Path  # the folder that holds our packages
    root: Path  # the repository; all paths in plans are below it
    digests: Digests = field(default_factory=Digests)

    @classmethod
    def read(
        cls, params: Params, code_root: Path, root: Path, looked: Path | None = None
    ) -> Context:
        """With the manifests that ``prepare`` wrote.

        Args:
            looked: where ``stages/look.py`` remembers the digests of weights.
        """
        return cls(params, Manifests(root, params.datasets), code_root, root, Digests(looked))

    def code(self, stage: str, modules: Iterable[str] = ()) -> dict[str, str]:
        """Digests of what a stage runs.

        Args:
            stage: its name, a file in ``stages``.
            modules: the entries of registries that it uses, below ``pipeline``.
        """
        names = [f"stages.{stage}", *(f"pipeline.{name}" for name in modules)]
        return code_digests(names, self.code_root, REGISTRIES)

    def features(self, dataset: str, names: Iterable[str]) -> dict[str, str]:
        """Fingerprints of stored features, frozen encoders' or retrievers', by path."""
        return {
            f"data/features/{dataset}/{name}.h5": sha256(self._index(dataset, name))
            for name in names
        }

    def width(self, dataset: str, encoder: str) -> int:
        """D of stored features."""
        path = self._index(dataset, encoder)
        index = read_json(path, "run `dvc repro`")
        width = index.get("width") if isinstance(index, dict) else None
        if type(width) is not int:
            raise EarwitnessError(f"{path}: not an index of features; run `dvc repro -f extract`")
        return width

    def models(self, kind: str, name: str, seeds: Iterable[int]) -> dict[str, str]:
        """Digests of a model of each seed, by path; of a space, which has no seed, its own.

        Args:
            kind: captioners or retrievers.
        """
        path = f"{MODELS}/{kind}/{name}"
        is_space = kind == "retrievers" and name in self.params.spaces
        paths = [path] if is_space else [f"{path}/{seed}" for seed in seeds]
        return {each: self.digests.of(self.root / each) or "not made yet" for each in paths}

    def trained(self, path: str | None) -> dict[str, str]:
        """Digest of the weights that the tagging stage trains; none where it does not."""
        if path is None:
            return {}
        digest = self.digests.of(self.root / path)
        if digest is None:
            raise EarwitnessError(f"{path}: weights not trained yet; run `dvc repro tagging`")
        return {path: digest}

    def with_files(self, plan: P) -> P:
        """The plan, with a digest of every file or folder that its settings name."""
        digests = {name: self.digests.of(self.root / name) for name in named_files(plan)}
        found = {f"weights {name}": each for name, each in digests.items() if each is not None}
        return plan.model_copy(update={"inputs": {**plan.inputs, **found}})

    def encoder_weights(self, name: str) -> str | None:
        """Of an encoder that the tagging stage trained, or of the tagger whose events it gives."""
        return _tagged(self.params.encoders[name].weights.tagger(name))

    def tower_weights(self, tower: SoundTowerConfig) -> str | None:
        """Of the encoder that a tower starts as, where the tagging stage trained that."""
        return _tagged(tower.weights.tagger())

    def _index(self, dataset: str, encoder: str) -> Path:
        """What is known of stored features; see features/store.py."""
        kind, stages = ("encoded", "encode") if "/" in encoder else ("frozen", "extract embed")
        path = self.root / "data" / "index" / kind / dataset / f"{encoder}.json"
        if not path.is_file():
            raise EarwitnessError(f"{path}: features not made yet; run `dvc repro {stages}`")
        return path


def architecture(name: str) -> str:
    """The module of a captioner's architecture."""
    return f"models.captioners.{name}"


def device(params: Params) -> DeviceConfig:
    """What a job that does not train is given of ``hardware``."""
    return DeviceConfig(device=params.hardware.device, threads=params.hardware.threads)


def corpus(dataset: str) -> str:
    """Path of a dataset's manifest."""
    return f"data/corpora/{dataset}.json"


def captions(manifest: Manifest) -> str:
    """Digest of what training on captions depends on."""
    return manifest.columns.fingerprint("clip_id", "split", "captions")


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()


def _tagged(encoder: str | None) -> str | None:
    """Path of the weights that the tagging stage trains for an encoder."""
    return None if encoder is None else f"{MODELS}/encoders/{encoder}/model.safetensors"

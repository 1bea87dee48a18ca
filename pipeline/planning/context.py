"""What planning reads, and the digests that plans are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.params import Params
from pipeline.config.retrievers import SoundTowerConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.files import read_json, sha256
from pipeline.planning.code import code_digest
from pipeline.planning.lookup import encoded_features

# registries import every entry; a job names the one that it uses
REGISTRIES = frozenset({"encoders", "models.captioners", "corpora.registry", "models.towers"})
MODULES = {"bart": "cmu"}  # architectures whose file has another name


@dataclass(frozen=True)
class Context:
    """The parameters, and what is made so far."""

    params: Params
    manifests: Mapping[str, Manifest]  # by dataset
    package: Path  # of the code
    models: Path  # {encoders,retrievers,captioners}/<name>/
    index: Path  # {frozen,encoded}/<dataset>/<encoder>.json, fingerprints of features

    def code(self, modules: Iterable[str]) -> str:
        """Digest of what ``modules`` run."""
        return code_digest(modules, self.package, REGISTRIES)

    def fingerprint(self, dataset: str, encoder: str) -> str:
        """Of stored features, a frozen encoder's or a retriever's."""
        return sha256(self._index(dataset, encoder))

    def width(self, dataset: str, encoder: str) -> int:
        """D of stored features."""
        return int(read_json(self._index(dataset, encoder), "run `dvc repro`")["width"])

    def _index(self, dataset: str, encoder: str) -> Path:
        """What is known of stored features; see features/store.py."""
        kind = "encoded" if encoder in encoded_features(self.params) else "frozen"
        path = self.index / kind / dataset / f"{encoder}.json"
        if not path.is_file():
            own = "encode" if encoder in self.params.encoded else "represent"
            stages = own if kind == "encoded" else "extract embed"
            raise EarwitnessError(f"{path}: features not made yet; run `dvc repro {stages}`")
        return path

    def tagged(self, encoder: str) -> Path:
        """The weights that the tagging stage trained for an encoder."""
        return self.models / "encoders" / encoder / "model.safetensors"

    def encoder_weights(self, name: str) -> Path | None:
        """Of an encoder that the tagging stage trained, or of the tagger whose events it gives."""
        named, _, encoder = self.params.encoders[name].weights.partition(":")
        return self.tagged(encoder or name) if named == "tagging" else None

    def tower_weights(self, tower: SoundTowerConfig) -> Path | None:
        """Of the encoder that a tower starts as, where the tagging stage trained that."""
        named, _, encoder = tower.weights.partition(":")
        return self.tagged(encoder) if named == "tagging" and encoder else None


def architecture(name: str) -> str:
    """The module of a captioner's architecture."""
    return f"models.captioners.{MODULES.get(name, name)}"


def sound(clip: Clip) -> list[Any]:
    """What features of a clip depend on."""
    return [clip.clip_id, clip.path, clip.duration, clip.digest]


def captions(clips: Iterable[Clip]) -> str:
    """Digest of what training on captions depends on."""
    return digest([[clip.clip_id, clip.split, clip.captions] for clip in clips])


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()


def weights(named: str, trained: Path | None = None) -> str:
    """Digest of the weights' files where they are here, else their name."""
    path = trained or Path(named)
    if trained and not trained.is_file():
        raise EarwitnessError(f"{trained}: weights not trained yet; run `dvc repro tagging`")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if not all(file.is_file() for file in files):
        return named
    return digest([[str(file.relative_to(path)), sha256(file)] for file in files])

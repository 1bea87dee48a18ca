"""What planning reads, and the digests that plans are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.hardware import DeviceConfig
from pipeline.config.params import Params
from pipeline.config.retrievers import SoundTowerConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.files import read_json, sha256
from pipeline.planning.code import code_digest
from pipeline.weights import Weights

# registries import every entry; a job names the one that it uses
REGISTRIES = frozenset(
    {"encoders.registry", "models.captioners", "corpora.registry", "models.towers.registry"}
)


@dataclass(frozen=True)
class Context:
    """The parameters, and what is made so far."""

    params: Params
    manifests: Mapping[str, Manifest]  # by dataset
    package: Path  # of the code
    models: Path  # {encoders,retrievers,captioners}/<name>/
    # fingerprints of features: frozen/<dataset>/<encoder>.json, and of a retriever's
    # encoded/<dataset>/<retriever>/{frames,sound,text}.json
    index: Path

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
        kind, stages = ("encoded", "encode") if "/" in encoder else ("frozen", "extract embed")
        path = self.index / kind / dataset / f"{encoder}.json"
        if not path.is_file():
            raise EarwitnessError(f"{path}: features not made yet; run `dvc repro {stages}`")
        return path

    def tagged(self, encoder: str) -> Path:
        """The weights that the tagging stage trained for an encoder."""
        return self.models / "encoders" / encoder / "model.safetensors"

    def encoder_weights(self, name: str) -> Path | None:
        """Of an encoder that the tagging stage trained, or of the tagger whose events it gives."""
        tagger = self.params.encoders[name].weights.tagger(name)
        return None if tagger is None else self.tagged(tagger)

    def tower_weights(self, tower: SoundTowerConfig) -> Path | None:
        """Of the encoder that a tower starts as, where the tagging stage trained that."""
        tagger = tower.weights.tagger()
        return None if tagger is None else self.tagged(tagger)


def architecture(name: str) -> str:
    """The module of a captioner's architecture."""
    return f"models.captioners.{name}"


def device(params: Params) -> DeviceConfig:
    """What a job that does not train is given of ``hardware``."""
    return DeviceConfig(device=params.hardware.device, threads=params.hardware.threads)


def sound(clip: Clip) -> list[Any]:
    """What features of a clip depend on."""
    return [clip.clip_id, clip.path, clip.duration, clip.digest]


def captions(clips: Iterable[Clip]) -> str:
    """Digest of what training on captions depends on."""
    return digest([[clip.clip_id, clip.split, clip.captions] for clip in clips])


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()


def weights(named: Weights | str, trained: Path | None = None) -> str:
    """Digest of the weights' files where they are here, else their name."""
    path = trained or Path(str(named))
    if trained and not trained.is_file():
        raise EarwitnessError(f"{trained}: weights not trained yet; run `dvc repro tagging`")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if not all(file.is_file() for file in files):
        return str(named)
    return digest([[str(file.relative_to(path)), sha256(file)] for file in files])

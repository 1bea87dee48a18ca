"""Which weights of frozen encoders go into an exported folder, and what plans call them there.

Those that were trained in the repository go along. Those of a hub or a package stay outside, by
name. Those by a path go along as well or, where their licence does not allow it, stay outside, and
the manifest says what to put where.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from earwitness.exporting.parts import FrozenPart
from earwitness.exporting.reading import SENTENCES, leads_out
from earwitness.repository import Repository
from pipeline.config.exported import ExportedFileConfig, NamedWeightsConfig
from pipeline.config.fields import Outside, marker
from pipeline.encoders.sources import wanted_files
from pipeline.files import sha256
from pipeline.outside.digests import list_files
from pipeline.weights import Weights

FOLDER = "data/weights"
BESIDE = ("config.json", "preprocessor_config.json")  # of a file of weights, which its reader reads
UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]")


@dataclass
class Relocation:
    """Copies what encoders read by a path, and rewrites what names it.

    Args:
        repository: that relative paths are of.
        place: the new folder.
        copied: whether weights by a path are; else they are left out.
    """

    repository: Repository
    place: Path
    copied: bool = True
    names: dict[str, str] = field(default_factory=dict)  # as settings have it → below the folder
    left_out: dict[str, ExportedFileConfig] = field(default_factory=dict)
    named: dict[tuple[str, str], NamedWeightsConfig] = field(default_factory=dict)

    def add(self, part: FrozenPart) -> None:
        """All that one frozen encoder reads."""
        if part.trained is not None:
            self._copy_trained(part.trained)
        located = self.repository.located(part.settings)
        for name, info in type(located).model_fields.items():
            raw, value = getattr(part.settings, name), getattr(located, name)
            if isinstance(value, Weights):
                if value.kind == "path":
                    graphs = part.settings.module == "onnx"
                    self._add_path(str(raw), Path(value.name), weights=True, graphs=graphs)
                elif value.kind in ("hub", "package"):
                    about = NamedWeightsConfig(
                        encoder=part.name, weights=str(value), sha256=part.sha256
                    )
                    self.named[part.name, str(value)] = about
            elif marker(info, Outside) is not None and value and Path(value).exists():
                self._add_path(raw, Path(value))

    def moved(self, value: Any) -> Any:
        """A JSON value whose paths mean what is in the folder; what is not keeps its last part."""
        match value:
            case str() if value in self.names:
                return self.names[value]
            case str() if leads_out(value) and PurePosixPath(value).name:
                return f"./{UNSAFE.sub('_', PurePosixPath(value).name)}"
            case dict():
                return {
                    self.moved(key): own if key in SENTENCES else self.moved(own)
                    for key, own in value.items()
                }
            case list():
                return [self.moved(own) for own in value]
        return value

    def _copy_trained(self, name: str) -> None:
        """The tagging stage's file, and the settings and class names beside it."""
        source = (self.repository.root / name).parent
        target = self.place / PurePosixPath(name).parent
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(source.iterdir()):
            if path.suffix in (".safetensors", ".json") and not path.name.startswith("."):
                shutil.copyfile(path, target / path.name)

    def _add_path(
        self, raw: str, source: Path, *, weights: bool = False, graphs: bool = False
    ) -> None:
        """``graphs``: ONNX models are what is read of a folder."""
        if raw in self.names:
            return
        files = dict(_files(source, graphs))
        content = "".join(f"{name} {sha256(path)}\n" for name, path in files.items())
        folder = f"{FOLDER}/{hashlib.sha256(content.encode()).hexdigest()[:12]}"
        for name, path in files.items():
            own = f"{folder}/{name}"
            if weights and not self.copied:
                size = path.stat().st_size
                self.left_out[own] = ExportedFileConfig(sha256=sha256(path), bytes=size)
            else:
                (self.place / own).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, self.place / own)
        self.names[raw] = folder if source.is_dir() else f"{folder}/{_safe(source.name)}"


def _files(source: Path, graphs: bool) -> Iterator[tuple[str, Path]]:
    """The files that weights are: name in the folder → file. No hidden ones.

    Of a model of transformers those that would be fetched of a hub: a clone has the same tensors in
    several forms, pickles among them.
    """
    if source.is_dir():
        names = [name for name in list_files(source) if not f"/{name}".count("/.")]
        tensors = any(name.endswith((".safetensors", ".bin")) for name in names)
        for name in wanted_files(names) if tensors and not graphs else names:
            yield "/".join(map(_safe, name.split("/"))), source / name
        return
    yield _safe(source.name), source
    for name in (*BESIDE, *_outer_tensors(source)):
        if (source.parent / name).is_file():
            yield "/".join(map(_safe, name.split("/"))), source.parent / name


def _outer_tensors(source: Path) -> list[str]:
    """The files beside an ONNX model that have some of its tensors."""
    if source.suffix != ".onnx":
        return []
    import onnx

    tensors = onnx.load(source, load_external_data=False).graph.initializer
    entries = [entry for tensor in tensors for entry in tensor.external_data]
    names = {entry.value for entry in entries if entry.key == "location"}
    return sorted(name for name in names if not leads_out(name))


def _safe(name: str) -> str:
    """A name that a manifest may have."""
    safe = UNSAFE.sub("_", name)
    return safe if safe[:1].isalnum() else f"_{safe[1:]}"

"""Finds the weights of an encoder or a tower: a hub, a package, a path or the tagging stage."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import torch

from pipeline.answers import silent
from pipeline.download import Checksum, download
from pipeline.errors import EarwitnessError, one_line, reason
from pipeline.files import check_file, sha256
from pipeline.weights import FORMS, Weights

SUFFIXES = {".safetensors", ".bin", ".json", ".txt", ".model"}  # of a model's files
SUFFIXES |= {".onnx", ".onnx_data", ".data"}
TRIES, PAUSE = 3, 1.0  # without a network, the error comes within seconds
OTHERS = ("*.json", "*.txt", "*.model")  # a hub model's settings and tokenizer
# a sentence-transformers model's dense layer may be a .bin beside a safetensors transformer
SAFE = ["*.safetensors", "*/pytorch_model.bin", *OTHERS]


@dataclass(frozen=True)
class HubFile:
    """A published checkpoint with an address of its own."""

    url: str
    checksum: Checksum

    @property
    def path(self) -> Path:
        """Where it lies once it is downloaded: in torch's cache, as other programs put it."""
        name = self.url.rsplit("/", 1)[-1].split("?")[0]
        return Path(torch.hub.get_dir()) / "checkpoints" / name


@dataclass(frozen=True)
class Hub:
    """A model's published checkpoint: a repository on the hub, or a file to download."""

    repository: str | None = None
    file: HubFile | None = None
    named: Mapping[str, HubFile] = field(default_factory=dict)  # what ``hub:NAME`` means
    by_hand: str | None = None  # the file that the user must get, as no address is known
    files: tuple[str, ...] = ()  # of a repository, where they are not transformers' own


def locate(weights: Weights, what: str, hub: Hub, trained: Path | None = None) -> Path:
    """The file or folder of the weights, downloaded if it is on the hub.

    Args:
        what: the model's name, for error messages.
        hub: the source of ``weights: hub``.
        trained: the tagging stage's file, if ``weights`` names the stage.

    Raises:
        EarwitnessError: no such weights, or the hub cannot be reached.
    """
    if weights.kind == "tagging":
        if trained is None or not trained.exists():
            raise EarwitnessError(
                f"{what}: no trained weights at {trained}; run `dvc repro tagging`"
            )
        return trained
    match weights.kind:
        case "hub" if weights.name in hub.named:
            return fetched(hub.named[weights.name])
        case "hub" if weights.name or hub.repository:
            return _snapshot(weights.name or str(hub.repository), hub.files)
        case "hub" if hub.file:
            return fetched(hub.file)
        case "hub":
            file = hub.by_hand or "a checkpoint"
            raise EarwitnessError(f"{what}: no weights on a hub; give the path of {file}")
        case "package":
            return _packaged(weights.name)
        case "path" if Path(weights.name).exists():
            return Path(weights.name)
    known = f"the path of {hub.by_hand}" if hub.by_hand else FORMS
    raise EarwitnessError(f"{what}: no weights at '{weights}'; give {known}")


def _snapshot(repository: str, files: Sequence[str]) -> Path:
    """A hub repository's folder in the hub's cache, with safetensors if the repository has them.

    ``files``: patterns of what is fetched beside settings; none: transformers' own.
    """
    from huggingface_hub import constants, snapshot_download

    why = silent(f"{constants.ENDPOINT}/api/models/{repository}")

    def snapshot(patterns: list[str]) -> Path:
        """From the cache alone where no hub answers."""
        cached = why is not None
        return Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=cached))

    try:
        if files:
            return snapshot([*files, *OTHERS])
        folder = snapshot(SAFE)
        if not any(folder.glob("*.safetensors")):
            folder = snapshot(["*.bin", *SAFE])
    except Exception as error:  # a server may answer anything
        raise _unreachable(repository, why or reason(error)) from None
    return folder


def wanted_files(names: Sequence[str]) -> list[str]:
    """Those of a hub repository's files that are fetched of a model of transformers."""
    safe = any(fnmatch(name, "*.safetensors") and "/" not in name for name in names)
    patterns = SAFE if safe else ["*.bin", *SAFE]
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def fetched(file: HubFile) -> Path:
    """A file in torch's cache, downloaded where it is missing or not the published one.

    Raises:
        EarwitnessError: it cannot be downloaded, or is not the published one. What is there stays
            until the right one has arrived.
    """
    path = file.path
    wrong = ""
    if path.exists():
        check_file(path, "delete it and try again")
        if file.checksum.fits(path):
            return path
        wrong = f"{path} is not the published file; "
    try:
        with one_line(path.parent, problem="cannot be written"):
            download(file.url, path, file.checksum, tries=TRIES, pause=PAUSE)
    except EarwitnessError as error:
        cause = str(error).removeprefix(f"{file.url}: ")
        raise _unreachable(file.url, cause, wrong) from None
    return path


def _unreachable(name: str, cause: str, before: str = "") -> EarwitnessError:
    return EarwitnessError(
        f"{before}weights {name} could not be downloaded ({cause}); give a path in `weights`,"
        " or, for a sound encoder, train them here with `weights: tagging`"
    )


def _packaged(name: str) -> Path:
    """The model's folder inside an installed package, which is not imported."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    for root in (spec.submodule_search_locations or []) if spec else []:
        found = sorted(Path(root).rglob("modules.json")) or sorted(Path(root).rglob("config.json"))
        if found:
            return min(found, key=lambda path: len(path.parts)).parent
    raise EarwitnessError(f"package {name} is not installed or has no model; `pip install {name}`")


def digest(location: Path) -> str:
    """SHA-256 of a file, or of a model folder's file names and files."""
    if location.is_file():
        return sha256(location)
    total = hashlib.sha256()
    for path in sorted(location.rglob("*")):
        if path.is_file() and path.suffix in SUFFIXES:
            total.update(f"{path.relative_to(location)} {sha256(path)}\n".encode())
    return total.hexdigest()

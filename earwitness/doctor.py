"""What of Java, SPICE, CUDA, weights and data is there, and how to get the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from earwitness.needs import named_weights
from earwitness.repair import leftovers, running_dvc
from earwitness.repository import Repository
from earwitness.training_data import datasets_of, in_words
from pipeline.config.params import Params
from pipeline.errors import EarwitnessError
from pipeline.model_folders import model_of
from pipeline.planning.lookup import captioner_seeds, retriever_seeds
from pipeline.storage.listing import sources
from pipeline.storage.places import is_folder
from pipeline.weights import Weights


class Finding(NamedTuple):
    """One line of the doctor's report; ``detail`` is where it is, or how to get it."""

    what: str
    there: bool
    detail: str


def examine(repository: Repository) -> Iterator[Finding]:
    """Looks at everything a run could need; reads, and changes nothing."""
    yield from _dvc(repository.root)
    yield _cuda()
    yield from _java(repository)
    try:
        settings = repository.params()
    except EarwitnessError as error:
        yield Finding("parameters", False, str(error))
        return
    yield Finding("parameters", True, str(repository.params_file))
    yield from _datasets(settings, repository)
    yield from _weights(settings, repository)
    yield from _evaluation(settings)
    yield from _models(settings, repository)


def _models(params: Params, repository: Repository) -> Iterator[Finding]:
    """One line each, whatever the number of its seeds."""
    spaces: dict[str, tuple[int, ...]] = {name: (0,) for name in params.spaces}  # any: it has none
    retrievers, captioners = spaces | retriever_seeds(params), captioner_seeds(params)
    for kind, models in (("retriever", retrievers), ("captioner", captioners)):
        for name, seeds in models.items():
            place = repository.data / "models" / f"{kind}s" / name
            folders = {seed: model_of(place, seed) for seed in seeds}
            missing = [s for s, own in folders.items() if not (own / "model.safetensors").is_file()]
            data = in_words(datasets_of(folders[seeds[0]]), params, repository) if seeds else ""
            about = f"{place}, trained on {data}" if data else str(place)
            if missing:
                of = f" (seed {', '.join(map(str, missing))})" if len(seeds) > 1 else ""
                about = f"run `dvc repro`{of}"
            yield Finding(f"{kind} {name}", not missing, about)


def _dvc(root: Path) -> Iterator[Finding]:
    if live := running_dvc(root):
        yield Finding("DVC", True, f"running: {live}")
        return
    found = [*leftovers(root)]
    for each in found:
        yield Finding("DVC, killed", False, f"{each.what}; run `earwitness doctor --repair`")
    if not found:
        yield Finding("DVC", True, "no killed run is in its way")


def _cuda() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("CUDA", True, torch.cuda.get_device_name())
    return Finding("CUDA", True, f"none; training runs on {torch.get_num_threads()} CPU threads")


def _java(repository: Repository) -> Iterator[Finding]:
    from pipeline.metrics.evaluate import find_tools

    tools = find_tools(repository.spice)
    get = "run `earwitness doctor --fix`"
    yield Finding("Java (METEOR, PTB tokens)", tools.java is not None, str(tools.java or get))
    yield Finding("SPICE", tools.spice is not None, str(tools.spice or get))


def _datasets(params: Params, repository: Repository) -> Iterator[Finding]:
    for name, dataset in params.datasets.items():
        given = getattr(dataset, "root", "")
        if given and not is_folder(repository.root / given, given):
            yield _stored(name, repository.root, given)
            continue
        root = repository.root / (given or repository.data / "raw" / name)
        if root.is_dir():
            detail = str(root)
        elif dataset.layout == "soundscapes" or getattr(dataset, "fetch", False):
            detail = f"{root}: made by `dvc repro prepare@{name}`"
        else:
            what = "tables" if dataset.layout in ("captions", "descriptions") else "recordings"
            detail = f"{root}: put the {what} there (docs/datasets.md)"
        yield Finding(f"dataset {name}", root.is_dir(), detail)


def _stored(name: str, base: Path, root: str) -> Finding:
    """Of a dataset in object storage, or in tar shards: whether it can be listed."""
    try:
        return Finding(f"dataset {name}", True, f"{root}: {len(sources(base, root))} files")
    except EarwitnessError as error:
        return Finding(f"dataset {name}", False, str(error))


def _weights(params: Params, repository: Repository) -> Iterator[Finding]:
    for each in named_weights(params):
        tower = each.section in ("sound_towers", "text_towers")
        what, when = (f"tower {each.entry}", "training") if tower else (each.entry, "extracting")
        yield _weights_of(what, each.weights, each.tagger, repository, when)
    if params.scst.rewards.sbert and params.scst.sbert:
        yield _weights_of("the sbert reward", params.scst.sbert, None, repository, "training")


def _weights_of(
    what: str, weights: Weights, tagger: str | None, repository: Repository, when: str
) -> Finding:
    """``tagger``: the encoder that the tagging stage trains them for, where it does."""
    folder = repository.data / "models" / "encoders"
    trained = folder / tagger / "model.safetensors" if tagger else None
    missing = weights.missing(trained, repository.root)
    remote = weights.kind in ("hub", "package")
    found = f"{weights} (loaded when {when})" if remote else str(trained or weights)
    return Finding(f"weights of {what}", missing is None, missing or found)


def _evaluation(params: Params) -> Iterator[Finding]:
    for name in ("sbert", "fluency"):
        weights = getattr(params.evaluation, name)
        detail = str(weights or f"off; set evaluation.{name} to hub or a path")
        yield Finding(f"score weights: {name}", True, detail)

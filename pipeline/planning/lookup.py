"""Entries of ``params.yaml`` and what they are made from: base models, seeds, stored features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from pipeline.config.captioners import CaptionerConfig, FinetunedConfig
from pipeline.config.feature_files import StoredAs
from pipeline.config.params import Params, with_settings
from pipeline.config.retrievers import (
    AdaptedConfig,
    CrnnTowerConfig,
    RetrieverConfig,
    SoundTowerConfig,
)
from pipeline.config.spaces import SpaceConfig


def text_features(params: Params) -> tuple[str, ...]:
    """Stored features of captions, by name: of text encoders, and of encoded retrievers."""
    return (*params.text_encoders, *(f"{name}/text" for name in params.encoded))


def stored_as(params: Params, feature: str) -> StoredAs:
    """How the values of a stored feature lie in its file."""
    return "int8" if feature in params.feature_files.int8 else "float16"


def has_frames(params: Params, retriever: str) -> bool:
    """Whether it trains a tower over one stored feature."""
    tower = params.sound_towers.get(base_retriever(params, retriever).sound[0])
    return tower is not None and len(tower_inputs(tower)) == 1


def tower_inputs(tower: SoundTowerConfig) -> tuple[str, ...]:
    """The stored features that a tower reads, the one whose frames are the tower's first."""
    return (tower.input, *(tower.beside if isinstance(tower, CrnnTowerConfig) else ()))


def all_retrievers(params: Params) -> dict[str, SpaceConfig | RetrieverConfig | AdaptedConfig]:
    """Of every kind, by name; spaces too, which are not trained."""
    return {**params.spaces, **trained_retrievers(params)}


def trained_retrievers(params: Params) -> dict[str, RetrieverConfig | AdaptedConfig]:
    """Of both kinds, by name."""
    return {**params.retrievers, **params.adapted}


def all_captioners(params: Params) -> dict[str, CaptionerConfig | FinetunedConfig]:
    """Of both kinds, by name."""
    return {**params.captioners, **params.finetuned}


def base_retriever(params: Params, name: str) -> SpaceConfig | RetrieverConfig:
    """The retriever that an adapted one began as; a retriever or a space itself."""
    if name in params.spaces:
        return params.spaces[name]
    adapted = params.adapted.get(name)
    return params.retrievers[adapted.retriever if adapted else name]


def base_captioner(params: Params, name: str) -> CaptionerConfig:
    """The captioner that a finetuned one began as; a captioner itself."""
    finetuned = params.finetuned.get(name)
    return params.captioners[finetuned.captioner if finetuned else name]


def system_seeds(params: Params) -> dict[str, tuple[int, ...]]:
    """Captioning system → the seeds that it is made with, in the order of ``seeds``."""
    return {name: _some(params, own.seeds) for name, own in params.systems.items()}


def retrieval_seeds(params: Params) -> dict[str, tuple[int, ...]]:
    """Retrieval system → as :func:`system_seeds`; one that ranks by captions has their seeds."""
    captioned, found = system_seeds(params), {}
    for name, own in params.retrieval_systems.items():
        found[name] = _some(params, own.seeds)
        if own.captions_of is not None and own.seeds is None:
            found[name] = captioned[own.captions_of]
    return found


def captioner_seeds(params: Params) -> dict[str, tuple[int, ...]]:
    """Captioner, finetuned or not → the seeds that it is trained with: those of the systems that it
    is in, or all, where it is in none.
    """
    asked: dict[str, set[int]] = defaultdict(set)
    for name, seeds in system_seeds(params).items():
        for member in params.systems[name].captioners:
            asked[member].update(seeds)
    bases = {name: finetuned.captioner for name, finetuned in params.finetuned.items()}
    return _trained_seeds(params, [*all_captioners(params)], asked, bases)


def retriever_seeds(params: Params) -> dict[str, tuple[int, ...]]:
    """Retriever, adapted or not → as :func:`captioner_seeds`; encoded ones with the first."""
    asked: dict[str, set[int]] = defaultdict(set)
    for name, seeds in retrieval_seeds(params).items():
        for member in params.retrieval_systems[name].retrievers:
            asked[member].update(seeds)
    for name, seeds in system_seeds(params).items():
        if (chooser := reranker(params, name)) is not None:
            asked[chooser].update(seeds)
    for name in params.encoded:
        asked[name].add(params.seeds[0])
    bases = {name: adapted.retriever for name, adapted in params.adapted.items()}
    return _trained_seeds(params, [*trained_retrievers(params)], asked, bases)


def reranker(params: Params, system: str) -> str | None:
    """The retriever that chooses among a captioning system's hypotheses."""
    settings = params.systems[system].set
    own = with_settings(params, settings, f"params.yaml: systems.{system}.set")
    return own.rerank.retriever


def _trained_seeds(
    params: Params,
    names: Collection[str],
    asked: Mapping[str, set[int]],
    bases: Mapping[str, str],
) -> dict[str, tuple[int, ...]]:
    """``bases``: of what is trained further, what it starts from, with the same seed."""
    asked = {name: {*asked.get(name, ())} for name in names}
    users = {base for base in bases.values()}
    for name in names:  # in no system, and nothing starts from it: somebody wants it for itself
        if not asked[name] and name not in users:
            asked[name] = {*params.seeds}
    for name, base in bases.items():
        asked[base] |= asked[name]
    return {name: _some(params, own) for name, own in asked.items()}


def _some(params: Params, seeds: Collection[int] | None) -> tuple[int, ...]:
    """Those of ``seeds``, in the order of the parameters; None: all."""
    return tuple(seed for seed in params.seeds if seeds is None or seed in seeds)

"""Entries of ``params.yaml`` and what they are made from: base models, and stored features."""

from __future__ import annotations

from pipeline.config.captioners import CaptionerConfig, FinetunedConfig
from pipeline.config.params import Params
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

"""Entries of ``params.yaml`` and what they are made from: base models, and stored features."""

from __future__ import annotations

from pipeline.config.captioners import CaptionerConfig, FinetunedConfig
from pipeline.config.params import Params
from pipeline.config.retrievers import AdaptedConfig, RetrieverConfig
from pipeline.config.rlssr import RlssrCaptionerConfig

SIDES = ("sound", "text")  # of a retriever's space


def encoded_features(params: Params) -> dict[str, str]:
    """Features that a trained retriever makes of others, and the retriever of each."""
    spaces = {f"{name}-{side}": name for name in params.represented for side in SIDES}
    return {**dict(zip(params.encoded, params.encoded, strict=True)), **spaces}


def text_features(params: Params) -> set[str]:
    """Features of captions: of text encoders, and of retrievers' text sides."""
    return {*params.text_encoders, *(f"{name}-text" for name in params.represented)}


def all_retrievers(params: Params) -> dict[str, RetrieverConfig | AdaptedConfig]:
    """Of both kinds, by name."""
    return {**params.retrievers, **params.adapted}


def all_captioners(params: Params) -> dict[str, CaptionerConfig | FinetunedConfig]:
    """Of both kinds, by name."""
    return {**params.captioners, **params.finetuned}


def base_retriever(params: Params, name: str) -> RetrieverConfig:
    """The retriever that an adapted one began as; a retriever itself."""
    adapted = params.adapted.get(name)
    return params.retrievers[adapted.retriever if adapted else name]


def base_captioner(params: Params, name: str) -> CaptionerConfig:
    """The captioner that a finetuned one began as; a captioner itself."""
    finetuned = params.finetuned.get(name)
    return params.captioners[finetuned.captioner if finetuned else name]


def captioner_features(params: Params, name: str) -> tuple[str, ...]:
    """The stored sound features that a captioner reads, a finetuned one too, in order."""
    captioner = base_captioner(params, name)
    if isinstance(captioner, RlssrCaptionerConfig):
        return (params.sound_towers[captioner.tower].input,)
    return captioner.features

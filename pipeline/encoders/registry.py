"""All frozen encoders, by the ``module`` of their settings; each is imported when it is built."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.config.encoders import BaseTextEncoderConfig, EncoderConfig, TextEncoderConfig
from pipeline.errors import EarwitnessError

if TYPE_CHECKING:
    import torch

    from pipeline.encoders.base import SoundEncoder, SpectrogramEncoder, TextEncoder
    from pipeline.encoders.sources import Hub
    from pipeline.encoders.tagging import TaggingModel


class SoundEntry(NamedTuple):
    """What a sound encoder's module defines."""

    hub: Hub | None  # the source of ``weights: hub``; None: it has no weights
    build: Callable[[Any, Any], SoundEncoder]  # (settings, the weights' path)


class TextEntry(NamedTuple):
    """What a text encoder's module defines."""

    hub: Hub
    build: Callable[[Any, Path, str], TextEncoder]  # (settings, the weights' path, device)


def sound_entry(settings: EncoderConfig) -> SoundEntry:
    """The entry of a sound encoder."""
    HUB: Hub | None
    build: Callable[[Any, Any], SoundEncoder]
    match settings.module:
        case "panns":
            from pipeline.encoders.panns import HUBS, build

            HUB = HUBS[settings.model]
        case "htsat":
            from pipeline.encoders.htsat import HUB, build
        case "convnext":
            from pipeline.encoders.convnext import HUB, build
        case "clap":
            from pipeline.encoders.clap import HUB, build
        case "wavcaps":
            from pipeline.encoders.wavcaps import HUB, build
        case "yamnet":
            from pipeline.encoders.yamnet import HUB, build
        case "vggish":
            from pipeline.encoders.vggish import HUB, build
        case "events":
            from pipeline.encoders import events

            HUB, build = events.HUB, partial(events.build, trunk=trunk)
        case "vit":
            from pipeline.encoders.vit import HUBS, build

            HUB = HUBS[settings.model]
        case "logmel":
            from pipeline.encoders.logmel import HUB, build
        case "fbank":
            from pipeline.encoders.fbank import HUB, build
        case "waveform":
            from pipeline.encoders.waveform import HUB, build
        case "onnx":
            from pipeline.encoders.onnx import build
            from pipeline.encoders.onnx_graph import hub

            HUB = hub(settings.file)
        case "transformers_audio":
            from pipeline.encoders.transformers_audio import HUB, build
        case "logmel":
            from pipeline.encoders.logmel import HUB, build
        case "fbank":
            from pipeline.encoders.fbank import HUB, build
        case "waveform":
            from pipeline.encoders.waveform import HUB, build
    return SoundEntry(HUB, build)


def text_entry(settings: TextEncoderConfig) -> TextEntry:
    """The entry of a text encoder."""
    build: Callable[[Any, Path, str], TextEncoder]
    match settings.module:
        case "instructor":
            from pipeline.encoders.instructor import HUB, build
        case "sentence":
            from pipeline.encoders.sentence import HUB, build
        case "clap_text":
            from pipeline.encoders.clap_text import HUB, build
        case "wavcaps_text":
            from pipeline.encoders.wavcaps_text import HUB, build
        case "word2vec":
            from pipeline.encoders.word2vec import HUB, build
    return TextEntry(HUB, build)


def trunk(settings: EncoderConfig) -> SpectrogramEncoder:
    """The untrained network of an encoder that the tagging stage can train.

    Raises:
        EarwitnessError: the stage cannot train this encoder.
    """
    match settings.module:
        case "panns":
            from pipeline.encoders.panns import PannsEncoder

            return PannsEncoder(settings)
        case "htsat":
            from pipeline.encoders.htsat import HtsatEncoder

            return HtsatEncoder(settings)
        case "convnext":
            from pipeline.encoders.convnext import ConvNextEncoder

            return ConvNextEncoder(settings)
        case "vggish":
            from pipeline.encoders.vggish import VggishEncoder

            return VggishEncoder(settings)
        case other:
            known = "panns, htsat, convnext, vggish"
            raise EarwitnessError(f"tagging cannot train {other}; it trains: {known}")


def build_sound_encoder(
    settings: EncoderConfig, trained: Path | None = None, device: torch.device | str = "cpu"
) -> SoundEncoder:
    """A frozen sound encoder in evaluation mode.

    Args:
        settings: its section of the parameters.
        trained: the tagging stage's file, if ``settings.weights`` names the stage.

    Raises:
        EarwitnessError: the weights are not available, or are not this encoder's.
    """
    hub, build = sound_entry(settings)
    encoder = build(settings, _location(settings, hub, trained) if hub else None)
    return encoder.eval().requires_grad_(False).to(device)


def build_text_encoder(
    settings: TextEncoderConfig, device: torch.device | str = "cpu"
) -> TextEncoder:
    """A frozen text encoder.

    Raises:
        EarwitnessError: the weights are not available, or are not this encoder's.
    """
    hub, build = text_entry(settings)
    return build(settings, _location(settings, hub), str(device))


def tagging_model(settings: EncoderConfig, classes: int) -> TaggingModel:
    """The untrained trunk of ``settings`` with a clip-level head; see encoders/tagging.py.

    Raises:
        EarwitnessError: the stage cannot train this encoder.
    """
    from pipeline.encoders.tagging import TaggingModel

    return TaggingModel(trunk(settings), classes)


def weights_digest(settings: EncoderConfig | TextEncoderConfig, trained: Path | None = None) -> str:
    """SHA-256 of the weights' file or files; ``none`` for an encoder without weights."""
    hub = (
        text_entry(settings).hub
        if isinstance(settings, BaseTextEncoderConfig)
        else sound_entry(settings).hub
    )
    if hub is None:
        return "none"
    from pipeline.encoders.sources import digest

    return digest(_location(settings, hub, trained))


def _location(
    settings: EncoderConfig | TextEncoderConfig, hub: Hub, trained: Path | None = None
) -> Path:
    from pipeline.encoders.sources import locate

    return locate(settings.weights, settings.module, hub, trained)

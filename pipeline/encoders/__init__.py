"""Frozen encoders: one module an encoder, imported when it is built and not before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.encoders import EncoderConfig, TextEncoderConfig
from pipeline.errors import EarwitnessError

if TYPE_CHECKING:
    import torch

    from pipeline.encoders.base import SoundEncoder, SpectrogramEncoder, TextEncoder
    from pipeline.encoders.tagging import TaggingModel

Weights = Path | None


def _panns(settings: Any, weights: Weights) -> SoundEncoder:
    from pipeline.encoders import panns

    return panns.build(settings, weights)


def _htsat(settings: Any, weights: Weights) -> SoundEncoder:
    from pipeline.encoders import htsat

    return htsat.build(settings, weights)


def _convnext(settings: Any, weights: Weights) -> SoundEncoder:
    from pipeline.encoders import convnext

    return convnext.build(settings, weights)


def _clap(settings: Any, weights: Weights) -> SoundEncoder:
    from pipeline.encoders import clap

    return clap.build(settings, weights)


def _wavcaps(settings: Any, weights: Weights) -> SoundEncoder:
    from pipeline.encoders import wavcaps

    return wavcaps.build(settings, weights)


def _yamnet(settings: Any, weights: Weights) -> SoundEncoder:
    from pipeline.encoders import yamnet

    return yamnet.build(settings, weights)


def _vggish(settings: Any, weights: Weights) -> SoundEncoder:
    from pipeline.encoders import vggish

    return vggish.build(settings, weights)


def _events(settings: Any, weights: Weights) -> SoundEncoder:
    from pipeline.encoders import events

    return events.build(settings, weights, TRUNKS)


def _logmel(settings: Any, weights: Weights) -> SoundEncoder:
    from pipeline.encoders import logmel

    return logmel.build(settings, weights)


def _fbank(settings: Any, weights: Weights) -> SoundEncoder:
    from pipeline.encoders import fbank

    return fbank.build(settings, weights)


def _waveform(settings: Any, weights: Weights) -> SoundEncoder:
    from pipeline.encoders import waveform

    return waveform.build(settings, weights)


def _instructor(settings: Any, device: str) -> TextEncoder:
    from pipeline.encoders import instructor

    return instructor.build(settings, device)


def _sentence(settings: Any, device: str) -> TextEncoder:
    from pipeline.encoders import sentence

    return sentence.build(settings, device)


def _clap_text(settings: Any, device: str) -> TextEncoder:
    from pipeline.encoders import clap_text

    return clap_text.build(settings, device)


def _wavcaps_text(settings: Any, device: str) -> TextEncoder:
    from pipeline.encoders import wavcaps_text

    return wavcaps_text.build(settings, device)


def _word2vec(settings: Any, device: str) -> TextEncoder:
    from pipeline.encoders import word2vec

    return word2vec.build(settings, device)


def _panns_trunk(settings: Any) -> SpectrogramEncoder:
    from pipeline.encoders.panns import PannsEncoder

    return PannsEncoder(settings)


def _htsat_trunk(settings: Any) -> SpectrogramEncoder:
    from pipeline.encoders.htsat import HtsatEncoder

    return HtsatEncoder(settings)


def _convnext_trunk(settings: Any) -> SpectrogramEncoder:
    from pipeline.encoders.convnext import ConvNextEncoder

    return ConvNextEncoder(settings)


def _vggish_trunk(settings: Any) -> SpectrogramEncoder:
    from pipeline.encoders.vggish import VggishEncoder

    return VggishEncoder(settings)


SOUND_ENCODERS: dict[str, Callable[[Any, Weights], SoundEncoder]] = {
    "panns": _panns,
    "htsat": _htsat,
    "convnext": _convnext,
    "clap": _clap,
    "wavcaps": _wavcaps,
    "yamnet": _yamnet,
    "vggish": _vggish,
    "events": _events,
    "logmel": _logmel,
    "fbank": _fbank,
    "waveform": _waveform,
}

TRUNKS: dict[str, Callable[[Any], SpectrogramEncoder]] = {
    "panns": _panns_trunk,
    "htsat": _htsat_trunk,
    "convnext": _convnext_trunk,
    "vggish": _vggish_trunk,
}

TEXT_ENCODERS: dict[str, Callable[[Any, str], TextEncoder]] = {
    "instructor": _instructor,
    "sentence": _sentence,
    "clap_text": _clap_text,
    "wavcaps_text": _wavcaps_text,
    "word2vec": _word2vec,
}


def build_sound_encoder(
    settings: EncoderConfig, weights: Weights, device: torch.device | str = "cpu"
) -> SoundEncoder:
    """A frozen sound encoder in evaluation mode.

    Args:
        settings: its section of the parameters.
        weights: the file that the tagging stage wrote, where ``settings.weights`` is ``tagging``;
            else None, and ``settings.weights`` says where they are.

    Raises:
        EarwitnessError: the weights are not to be had, or are not this encoder's.
    """
    encoder = SOUND_ENCODERS[settings.module](settings, weights)
    return encoder.eval().requires_grad_(False).to(device)


def build_text_encoder(
    settings: TextEncoderConfig, device: torch.device | str = "cpu"
) -> TextEncoder:
    """A frozen text encoder.

    Raises:
        EarwitnessError: the weights are not to be had, or are not this encoder's.
    """
    return TEXT_ENCODERS[settings.module](settings, str(device))


def tagging_model(settings: EncoderConfig, classes: int) -> TaggingModel:
    """The untrained trunk of ``settings`` with a clip-level head; see encoders/tagging.py.

    Raises:
        EarwitnessError: the encoder has no trunk to train.
    """
    from pipeline.encoders.tagging import TaggingModel

    if settings.module not in TRUNKS:
        known = ", ".join(TRUNKS)
        raise EarwitnessError(f"tagging cannot train {settings.module}; it trains: {known}")
    return TaggingModel(TRUNKS[settings.module](settings), classes)


def weights_digest(settings: EncoderConfig | TextEncoderConfig, weights: Weights = None) -> str:
    """SHA-256 of the weights' file or files; ``none`` where the encoder has none."""
    from pipeline.encoders import sources

    return sources.digest(settings, weights)

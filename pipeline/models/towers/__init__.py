"""Sound towers: what a retriever trains over stored features, each imported when it is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.encoders import EncoderConfig
from pipeline.config.retrievers import SoundTowerConfig
from pipeline.errors import EarwitnessError

if TYPE_CHECKING:
    from pipeline.models.towers.base import SoundTower

Weights = Path | None
Widths = Sequence[int]  # W of each stored feature


def _panns(
    settings: Any, input: Any, weights: Weights, pretrained: bool, widths: Widths
) -> SoundTower:
    from pipeline.models.towers import panns

    return panns.build(settings, input, weights, pretrained)


def _wavegram(
    settings: Any, input: Any, weights: Weights, pretrained: bool, widths: Widths
) -> SoundTower:
    from pipeline.models.towers import wavegram

    return wavegram.build(settings, input, weights, pretrained)


def _ast(
    settings: Any, input: Any, weights: Weights, pretrained: bool, widths: Widths
) -> SoundTower:
    from pipeline.models.towers import ast

    return ast.build(settings, input, weights, pretrained)


def _crnn(
    settings: Any, input: Any, weights: Weights, pretrained: bool, widths: Widths
) -> SoundTower:
    from pipeline.models.towers import crnn

    return crnn.build(settings, widths)


SOUND_TOWERS: dict[str, Callable[[Any, Any, Weights, bool, Widths], SoundTower]] = {
    "panns": _panns,
    "wavegram": _wavegram,
    "ast": _ast,
    "crnn": _crnn,
}

# stored features, by tower; null: any
READS = {"panns": "logmel", "wavegram": "waveform", "ast": "fbank", "crnn": None}


def build_sound_tower(
    settings: SoundTowerConfig,
    input: EncoderConfig,
    weights: Weights,
    *,
    widths: Widths = (),
    pretrained: bool = True,
) -> SoundTower:
    """A tower in training mode, with the weights that its training starts with.

    Args:
        settings: its section of the parameters.
        input: the settings of the stored feature that it reads; its front end is the tower's.
        weights: the file that the tagging stage wrote, where ``settings.weights`` is
            ``tagging:ENCODER``; else None.
        widths: W of each stored feature, for towers that read any.
        pretrained: False for random weights that a trained retriever's replace: no file is read.

    Raises:
        EarwitnessError: the stored feature is not what the tower reads, or not what the weights
            were trained with; or the weights are not to be had.
    """
    wanted = READS[settings.module]
    if wanted is not None and input.module != wanted:
        raise EarwitnessError(
            f"sound tower {settings.module} reads a stored {wanted}, and"
            f" {settings.input} is a {input.module}; name another encoder in its `input`"
        )
    return SOUND_TOWERS[settings.module](settings, input, weights, pretrained, widths)

"""All sound towers, by the ``module`` of their settings; each is imported when it is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.config.encoders import EncoderConfig
from pipeline.config.retrievers import SoundTowerConfig
from pipeline.errors import EarwitnessError

if TYPE_CHECKING:
    from pipeline.encoders.sources import Hub
    from pipeline.models.towers.base import SoundTower


class TowerEntry(NamedTuple):
    """What a sound tower's module defines."""

    reads: str | None  # the ``module`` of the stored feature that it reads; None: any
    hub: Hub  # the source of ``weights: hub``
    # (settings, the stored feature's settings, the weights' path, W of each stored feature)
    build: Callable[[Any, Any, Any, Sequence[int]], SoundTower]


def tower_entry(settings: SoundTowerConfig) -> TowerEntry:
    """The entry of a sound tower."""
    READS: str | None
    build: Callable[[Any, Any, Any, Sequence[int]], SoundTower]
    match settings.module:
        case "panns":
            from pipeline.encoders.panns import HUBS
            from pipeline.models.towers.panns import READS, build

            HUB = HUBS[settings.model]
        case "wavegram":
            from pipeline.models.towers.wavegram import HUB, READS, build
        case "ast":
            from pipeline.models.towers.ast import HUB, READS, build
        case "crnn":
            from pipeline.models.towers.crnn import HUB, READS, build
    return TowerEntry(READS, HUB, build)


def build_sound_tower(
    settings: SoundTowerConfig,
    input: EncoderConfig,
    trained: Path | None,
    *,
    widths: Sequence[int] = (),
    pretrained: bool = True,
) -> SoundTower:
    """A tower in training mode, with its initial weights.

    Args:
        settings: its section of the parameters.
        input: the settings of the stored feature that it reads; its front end is the tower's.
        trained: the tagging stage's file, if ``settings.weights`` is ``tagging:ENCODER``.
        widths: W of each stored feature, for towers that read any.
        pretrained: False for random weights, to be replaced by a trained retriever's.

    Raises:
        EarwitnessError: the stored feature does not fit the tower or its weights, or the weights
            are not available.
    """
    reads, hub, build = tower_entry(settings)
    if reads is not None and input.module != reads:
        raise EarwitnessError(
            f"sound tower {settings.module} reads a stored {reads}, and"
            f" {settings.input} is a {input.module}; set its `input` to another encoder"
        )
    location = None
    if pretrained and settings.weights.kind != "scratch":
        from pipeline.encoders.sources import locate

        location = locate(settings.weights, f"sound tower {settings.module}", hub, trained)
    return build(settings, input, location, widths)

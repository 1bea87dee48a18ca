"""Sound towers: what a retriever trains over stored features, each imported when it is built."""

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
    """What the module of a tower has."""

    reads: str | None  # the ``module`` of the stored feature that it reads; None: any
    hub: Hub  # what ``weights: hub`` stands for
    # of its settings, the stored feature's, where its weights are, and W of each stored feature
    build: Callable[[Any, Any, Any, Sequence[int]], SoundTower]


def tower_entry(settings: SoundTowerConfig) -> TowerEntry:
    """Every sound tower."""
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
    """A tower in training mode, with the weights that its training starts with.

    Args:
        settings: its section of the parameters.
        input: the settings of the stored feature that it reads; its front end is the tower's.
        trained: the file that the tagging stage wrote, where ``settings.weights`` is
            ``tagging:ENCODER``; else None.
        widths: W of each stored feature, for towers that read any.
        pretrained: False for random weights that a trained retriever's replace: no file is read.

    Raises:
        EarwitnessError: the stored feature is not what the tower reads, or not what the weights
            were trained with; or the weights are not available.
    """
    reads, hub, build = tower_entry(settings)
    if reads is not None and input.module != reads:
        raise EarwitnessError(
            f"sound tower {settings.module} reads a stored {reads}, and"
            f" {settings.input} is a {input.module}; name another encoder in its `input`"
        )
    location = None
    if pretrained and settings.weights.kind != "scratch":
        from pipeline.encoders.sources import locate

        location = locate(settings.weights, f"sound tower {settings.module}", hub, trained)
    return build(settings, input, location, widths)

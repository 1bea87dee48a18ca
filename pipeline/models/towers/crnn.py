"""DCASE 2022's CRNN over stored features, trained from scratch (CMU 5.2)."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.encoders import EncoderConfig
from pipeline.config.retrievers import CrnnTowerConfig
from pipeline.encoders.sources import Hub
from pipeline.models.layers.crnn import Crnn
from pipeline.models.layers.pooling import mean
from pipeline.models.towers.base import SoundTower, TowerOutput
from pipeline.tensors import Padded

READS = None  # any feature
HUB = Hub()


class CrnnTower(SoundTower):
    """A clip's embedding is the mean of its frames."""

    def __init__(self, widths: Sequence[int], settings: CrnnTowerConfig) -> None:
        """``widths``: W of each stored feature, ``input`` first."""
        super().__init__()
        first, *beside = widths
        self.network = Crnn(first, beside, settings)
        self.width = self.embedding_width = self.network.width
        self.reduction = self.network.reduction

    def forward(self, stored: Sequence[Padded]) -> TowerOutput:
        first, *beside = stored
        frames = self.network(first, beside)
        return TowerOutput(frames, mean(frames))


def build(
    settings: CrnnTowerConfig, input: EncoderConfig, location: None, widths: Sequence[int]
) -> CrnnTower:
    """The tower; see :func:`pipeline.models.towers.registry.build_sound_tower`."""
    return CrnnTower(widths, settings)

"""PANNs' Wavegram-Logmel-CNN14 over a stored waveform, trained (SJTU 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.encoders import PannsEncoderConfig, WaveformEncoderConfig
from pipeline.config.retrievers import WavegramTowerConfig
from pipeline.encoders.panns import HUBS
from pipeline.encoders.wavegram import HOP, REDUCTION, WavegramEncoder
from pipeline.models.towers.base import TowerOutput
from pipeline.models.towers.panns import PannsPooling
from pipeline.tensors import Padded

READS = "waveform"
HUB = HUBS["wavegram_logmel_cnn14"]


class WaveTower(PannsPooling):
    """Frames of :class:`pipeline.encoders.wavegram.WavegramEncoder`, of samples stored in frames.

    A clip ends with its last stored frame, which may be padded with zeros.
    """

    encoder: WavegramEncoder

    def __init__(self, settings: PannsEncoderConfig, frame: int) -> None:
        super().__init__(WavegramEncoder(settings))
        self.reduction = REDUCTION * HOP / frame

    def forward(self, stored: Sequence[Padded]) -> TowerOutput:
        (waveform,) = stored
        samples = waveform.lengths * waveform.values.shape[2]
        frames = self.encoder(waveform.values.flatten(1), samples)
        return TowerOutput(frames, self.pooled(frames))


def build(
    settings: WavegramTowerConfig,
    input: WaveformEncoderConfig,
    location: Path | None,
    widths: Sequence[int],
) -> WaveTower:
    """The tower; see :func:`pipeline.models.towers.registry.build_sound_tower`."""
    network = PannsEncoderConfig(
        module="panns",
        model="wavegram_logmel_cnn14",
        sample_rate=input.sample_rate,
        **settings.model_dump(exclude={"module", "input"}),
    )
    tower = WaveTower(network, input.frame)
    if location is not None:
        tower.load(network, location)
    return tower

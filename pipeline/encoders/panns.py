"""PANNs' CNN14 and CNN10 (Kong et al. 2020, table 1)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from pipeline.config.encoders import PannsEncoderConfig
from pipeline.encoders import weights as files
from pipeline.encoders.base import SoundEncoder
from pipeline.encoders.cnn import CnnEncoder, frequency_mean
from pipeline.encoders.wavegram import WavegramEncoder
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

POOLS = {"cnn14": (2, 2, 2, 2, 2, 1), "cnn10": (2, 2, 2, 2)}  # after each block
UNUSED = ("fc1.", "fc_audioset.", "spectrogram_extractor.", "logmel_extractor.", files.HEAD)


class PannsEncoder(CnnEncoder):
    """CNN14: six blocks, 2048-d frames every 32 log-mel frames; CNN10: four, 512-d, every 16.

    Frames are the mean over frequency after the last block, as captioning systems take them.
    """

    def __init__(self, settings: PannsEncoderConfig) -> None:
        if settings.model not in POOLS:
            raise EarwitnessError(
                f"panns {settings.model} reads the waveform too; take {' or '.join(POOLS)} here"
            )
        super().__init__(settings, settings.channels, POOLS[settings.model])
        self.width = self.map_width
        self.frame_seconds = self.reduction * settings.hop / settings.sample_rate

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        return frequency_mean(*self.maps(logmel, lengths))


def build(settings: PannsEncoderConfig, weights: Path | None) -> SoundEncoder:
    """The encoder with its weights: PANNs' own checkpoints, or those of the tagging stage."""
    wavegram = settings.model == "wavegram_logmel_cnn14"
    encoder = WavegramEncoder(settings) if wavegram else PannsEncoder(settings)
    files.load_trained(encoder, encoder.logmel, settings, weights, UNUSED)
    return encoder

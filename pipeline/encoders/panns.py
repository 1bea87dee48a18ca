"""PANNs' CNN14 and CNN10 (Kong et al. 2020, table 1)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from pipeline.config.encoders import PannsEncoderConfig
from pipeline.download import Checksum
from pipeline.encoders import checkpoints
from pipeline.encoders.base import SoundEncoder
from pipeline.encoders.cnn import CnnEncoder, frequency_mean
from pipeline.encoders.sources import Hub, HubFile
from pipeline.encoders.wavegram import WavegramEncoder
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

ZENODO = "https://zenodo.org/record/3987831/files/"
_FILES = {  # PANNs' names and Zenodo's MD5s
    "cnn14": ("Cnn14_mAP%3D0.431", "541141fa2ee191a88f24a3219fff024e"),
    "cnn10": ("Cnn10_mAP%3D0.380", "bfb1f1f9968938fa8ef4012b8471f5f6"),
    "wavegram_logmel_cnn14": (
        "Wavegram_Logmel_Cnn14_mAP%3D0.439",
        "17fa9ab65af3c0eb5ffbc5f65552c4e1",
    ),
}
HUBS = {
    model: Hub(file=HubFile(f"{ZENODO}{name}.pth?download=1", Checksum("md5", md5)))
    for model, (name, md5) in _FILES.items()
}
POOLS = {"cnn14": (2, 2, 2, 2, 2, 1), "cnn10": (2, 2, 2, 2)}  # after each block
UNUSED = (
    *("fc1.", "fc_audioset.", "spectrogram_extractor.", "logmel_extractor.", checkpoints.HEAD),
    "melspec_extractor.",  # torchaudio's, the same log-mel
)
# what stands before PANNs' names where the network is a part of a larger one, by several GPUs too
WHOLES = (
    "audio_encoder.",  # SJTU's CLAP: wsntxxn/DCASE2022T6_CLAP, models/audio_text_model.py
    "encoder.cnn.",  # SJTU's captioners: wsntxxn/AudioCaption, models/crnn_trm_encoder.py
    "backbone.",  # COLA: wsntxxn/AudioCaption, models/cnn_encoder.py
)
PREFIXES = ("module.", *WHOLES, *(f"module.{each}" for each in WHOLES))


class PannsEncoder(CnnEncoder):
    """CNN14: six blocks, 2048-d frames every 32 log-mel frames; CNN10: four, 512-d, every 16.

    Frames are the mean over frequency after the last block, as in captioning systems.
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


def build(settings: PannsEncoderConfig, location: Path) -> SoundEncoder:
    """The encoder with PANNs' published weights, SJTU's, or the tagging stage's."""
    wavegram = settings.model == "wavegram_logmel_cnn14"
    encoder = WavegramEncoder(settings) if wavegram else PannsEncoder(settings)
    checkpoints.load_trained(encoder, encoder.logmel, settings, location, UNUSED, prefixes=PREFIXES)
    return encoder

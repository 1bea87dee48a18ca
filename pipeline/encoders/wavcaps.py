"""The sound side of WavCaps' retrieval models (Mei et al. 2023, 4.1): CNN14, then a projection."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config import WavCapsEncoder as Settings
from pipeline.encoders import weights as files
from pipeline.encoders.cnn import CnnEncoder, frequency_mean, peak_and_mean
from pipeline.encoders.wavcaps_checkpoint import Checkpoint, read_checkpoint
from pipeline.models.batch import Padded

PREFIX = "audio_encoder.audio_enc."
POOLS = (2, 2, 2, 2, 2, 2)  # WavCaps' CNN14 pools after its last block too, PANNs' does not
UNUSED = ("audio_feats_extractor.", "text_encoder.", "text_proj.")


class WavCapsEncoder(CnnEncoder):
    """One D-wide unit frame a window, what WavCaps' ``ASE.encode_audio`` gives for it alone.

    WavCaps pads a batch with silence that its network hears; here a clip ends where it ends.
    """

    pooled = True

    def __init__(self, settings: Settings, checkpoint: Checkpoint) -> None:
        """Of the size that the checkpoint has, still without its weights."""
        channels = checkpoint.shape(f"{PREFIX}conv_block1.conv1.weight")[0]
        super().__init__(settings, channels, POOLS)
        self.audio_proj = checkpoint.projection("audio_proj", self.map_width)
        self.width = self.audio_proj.width
        self.frame_seconds = settings.window_seconds

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        heard = peak_and_mean(frequency_mean(*self.maps(logmel, lengths)))
        embedding = F.normalize(self.audio_proj(heard), dim=-1)
        return Padded(embedding[:, None], torch.ones_like(lengths))


def build(settings: Settings, weights: Path | None) -> WavCapsEncoder:
    """The encoder with the weights of WavCaps' checkpoint."""
    checkpoint = read_checkpoint(settings)
    encoder = WavCapsEncoder(settings, checkpoint)
    filters = checkpoint.state.get(f"{PREFIX}audio_feats_extractor.log_trans.melW")
    files.check_filters(filters, encoder.logmel, checkpoint.source)
    checkpoint.load(encoder, PREFIX, UNUSED)
    return encoder

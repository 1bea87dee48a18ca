"""The sound side of WavCaps' retrieval models (Mei et al. 2023): CNN14 or HTSAT."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.encoders import WavCapsEncoderConfig
from pipeline.encoders import checkpoints
from pipeline.encoders.base import peak_and_mean
from pipeline.encoders.cnn import CnnEncoder, frequency_mean
from pipeline.encoders.sources import Hub
from pipeline.encoders.wavcaps_checkpoint import AUDIO, Checkpoint, read_checkpoint
from pipeline.encoders.wavcaps_htsat import WavCapsHtsat, sound_names
from pipeline.tensors import Padded

HUB = Hub(by_hand="a .pt of WavCaps' retrieval code")
POOLS = (2, 2, 2, 2, 2, 2)  # WavCaps' CNN14 pools after its last block too, PANNs' does not
UNUSED = ("audio_feats_extractor.", "text_encoder.", "text_proj.", "tscam_conv.", "head.")


class WavCapsEncoder(CnnEncoder):
    """CNN14: one D-wide unit frame a window, equal to WavCaps' ``ASE.encode_audio`` of it alone.

    WavCaps' network also reads the silence that pads a batch; here padding has no effect.
    """

    pooled = True

    def __init__(self, settings: WavCapsEncoderConfig, checkpoint: Checkpoint) -> None:
        """With the checkpoint's sizes; the weights are loaded later."""
        channels = checkpoint.shape(f"{AUDIO}conv_block1.conv1.weight")[0]
        super().__init__(settings, channels, POOLS)
        self.audio_proj = checkpoint.projection("audio_proj", self.map_width)
        self.width = self.audio_proj.width
        self.frame_seconds = settings.window_seconds

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        pooled = peak_and_mean(frequency_mean(*self.maps(logmel, lengths)))
        embedding = F.normalize(self.audio_proj(pooled), dim=-1)
        return Padded(embedding[:, None], torch.ones_like(lengths))


def build(settings: WavCapsEncoderConfig, location: Path) -> WavCapsEncoder | WavCapsHtsat:
    """WavCaps' CNN14 or HTSAT, whichever the checkpoint holds, with its weights."""
    checkpoint = read_checkpoint(location)
    htsat = f"{AUDIO}patch_embed.proj.weight" in checkpoint.state
    encoder = (WavCapsHtsat if htsat else WavCapsEncoder)(settings, checkpoint)
    filters = checkpoint.state.get(f"{AUDIO}audio_feats_extractor.log_trans.melW")
    checkpoints.check_filters(filters, encoder.logmel, checkpoint.source)
    state = checkpoint.without(AUDIO)
    checkpoint.load(encoder, sound_names(state) if htsat else state, UNUSED)
    return encoder

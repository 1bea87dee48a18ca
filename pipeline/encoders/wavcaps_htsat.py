"""HTSAT (Chen et al. 2022) of WavCaps' retrieval models, on transformers' ClapAudioModel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ClapAudioModel

from pipeline.config.encoders import WavCapsEncoderConfig
from pipeline.encoders.base import SpectrogramEncoder
from pipeline.encoders.htsat_checkpoint import SPEC, htsat_config, htsat_names, htsat_sizes
from pipeline.encoders.spectrogram import LogMel, front_end
from pipeline.encoders.wavcaps_checkpoint import AUDIO, Checkpoint
from pipeline.errors import EarwitnessError, one_line
from pipeline.tensors import Padded

NAME = "model.audio_encoder."  # begins the names of the network's tensors here


class WavCapsHtsat(SpectrogramEncoder):
    """HTSAT: one D-wide unit frame a window, equal to ``ASE.encode_audio`` of it alone.

    A window, of 10.2 s at most, is stretched in time to fill HTSAT's square.
    """

    pooled = True

    def __init__(self, settings: WavCapsEncoderConfig, checkpoint: Checkpoint) -> None:
        """With the checkpoint's sizes; the weights are loaded later.

        Raises:
            EarwitnessError: windows are longer than the square.
        """
        super().__init__()
        self.bins = SPEC * (SPEC // settings.mels)
        longest = self.bins * settings.hop / settings.sample_rate
        if settings.window_seconds >= longest:
            raise EarwitnessError(
                f"{checkpoint.source}: its HTSAT reads less than {longest:g} s at once; set"
                " window_seconds to 10"
            )
        self.logmel = LogMel(**front_end(settings))
        tensors = sound_names(checkpoint.without(AUDIO))
        sizes = htsat_sizes(tensors, NAME, checkpoint.source)
        with one_line(checkpoint.source):
            self.model = ClapAudioModel(htsat_config(sizes, settings.mels, SPEC))
        self.audio_proj = checkpoint.projection("audio_proj", self.model.config.hidden_size)
        self.sample_rate, self.width = settings.sample_rate, self.audio_proj.width
        self.frame_seconds = settings.window_seconds

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        square = torch.cat(
            [
                F.interpolate(
                    clip[None, None, :frames],
                    (self.bins, logmel.shape[2]),
                    mode="bicubic",
                    align_corners=True,
                )
                for clip, frames in zip(logmel, lengths.tolist(), strict=True)
            ]
        )
        pooled = self.model(input_features=square).pooler_output
        embedding = F.normalize(self.audio_proj(pooled), dim=-1)
        return Padded(embedding[:, None], torch.ones_like(lengths))


def sound_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """HTSAT's tensors under :class:`WavCapsHtsat`'s names, the others unchanged."""
    return htsat_names(state, NAME)

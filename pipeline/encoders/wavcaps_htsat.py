"""HTSAT (Chen et al. 2022) of WavCaps' retrieval models, on transformers' ClapAudioModel."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ClapAudioConfig, ClapAudioModel

from pipeline.config.encoders import WavCapsEncoderConfig
from pipeline.encoders.base import SpectrogramEncoder
from pipeline.encoders.spectrogram import LogMel, front_end
from pipeline.encoders.wavcaps_checkpoint import AUDIO, Checkpoint
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

SPEC = 256  # time is folded into a square of this side (models/audio_encoder.py)
NAMES = {  # HTSAT's names → transformers'
    "bn0.": "batch_norm.",
    "norm1.": "layernorm_before.",
    "norm2.": "layernorm_after.",
    "attn.proj.": "attention.output.dense.",
    "attn.": "attention.self.",
    "mlp.fc1.": "intermediate.dense.",
    "mlp.fc2.": "output.dense.",
}
NETWORK = ("bn0.", "patch_embed.", "layers.", "norm.")  # begin the network's names


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
        self.model = ClapAudioModel(_config(checkpoint, settings.mels))
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


def _config(checkpoint: Checkpoint, mels: int) -> ClapAudioConfig:
    """An HTSAT of the size of the checkpoint's tensors."""
    width, _, patch, _ = checkpoint.shape(f"{AUDIO}patch_embed.proj.weight")
    stages = range(checkpoint.layers(f"{AUDIO}layers."))
    bias = "blocks.0.attn.relative_position_bias_table"  # ((2 × window − 1)², heads)
    tables = [checkpoint.shape(f"{AUDIO}layers.{stage}.{bias}") for stage in stages]
    return ClapAudioConfig(
        window_size=(isqrt(tables[0][0]) + 1) // 2,
        num_mel_bins=mels,
        spec_size=SPEC,
        patch_size=patch,
        patch_stride=[patch, patch],
        depths=[checkpoint.layers(f"{AUDIO}layers.{stage}.blocks.") for stage in stages],
        num_attention_heads=[heads for _, heads in tables],
        num_hidden_layers=len(tables),
        patch_embeds_hidden_size=width,
        hidden_size=width * 2 ** (len(tables) - 1),
    )


def htsat_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """HTSAT's tensors under :class:`WavCapsHtsat`'s names, the others unchanged."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        new = f"model.audio_encoder.{_renamed(name)}"
        if not name.startswith(NETWORK):
            named[name] = tensor
        elif ".qkv." in new:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                named[new.replace("qkv", part)] = piece
        elif not name.endswith(".attn_mask"):  # determined by the square's size
            named[new] = tensor
    return named


def _renamed(name: str) -> str:
    for theirs, ours in NAMES.items():
        if f".{theirs}" in f".{name}":
            return name.replace(theirs, ours)
    return name

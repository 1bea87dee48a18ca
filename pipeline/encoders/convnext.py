"""ConvNeXt-Tiny on AudioSet (Pellegrini et al. 2023) on transformers' ConvNextModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ConvNextConfig, ConvNextModel

from pipeline.config.encoders import ConvNextEncoderConfig
from pipeline.download import Checksum
from pipeline.encoders import checkpoints
from pipeline.encoders.base import SpectrogramEncoder
from pipeline.encoders.conv_blocks import masked_norm, zero_past
from pipeline.encoders.sources import Hub, HubFile
from pipeline.encoders.spectrogram import LogMel, at_least, front_end
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

_FILES = {  # Zenodo's record and MD5 of each: Labbeti/dcase2024-task6-baseline, nn/ckpt.py
    "convnext_tiny_471mAP": ("8020843", "e069ecd1c7b880268331119521c549f2"),
    "convnext_tiny_465mAP_BL_AC_70kit": ("8020843", "0688ae503f5893be0b6b71cb92f8b428"),
    "convnext_tiny_465mAP_BL_AC_75kit": ("10987498", "f6f57c87b7eb664a23ae8cad26eccaa0"),
}
HUB = Hub(
    repository="topel/ConvNeXt-Tiny-AT",  # convnext_tiny_471mAP
    named={
        name: HubFile(
            f"https://zenodo.org/records/{record}/files/{name}.pth?download=1",
            Checksum("md5", md5),
        )
        for name, (record, md5) in _FILES.items()
    },
)
PATCH = 4  # the stem's kernel and stride
STEM_PADDING = 4  # frames of zeros at both ends before the stem: Pellegrini et al.'s code
UNUSED = ("head_audioset.", "spectrogram_extractor.", "logmel_extractor.", checkpoints.HEAD)


class ConvNextEncoder(SpectrogramEncoder):
    """Frames every 4 × 2 ** (stages − 1) log-mel frames: 768-d each 0.32 s for ConvNeXt-Tiny.

    Frames are the mean over frequency after the last stage, before the classifier's pooling and
    norm. A clip is padded by its reflection, then by zeros, alone and in a batch; a clip shorter
    than one frame is padded with silence to one.
    """

    def __init__(self, settings: ConvNextEncoderConfig) -> None:
        super().__init__()
        self.reduction = PATCH * 2 ** (len(settings.widths) - 1)
        if settings.mels < self.reduction:
            raise EarwitnessError(f"convnext needs mels of {self.reduction} or more")
        config = ConvNextConfig(
            num_channels=1,
            patch_size=PATCH,
            num_stages=len(settings.depths),
            hidden_sizes=list(settings.widths),
            depths=list(settings.depths),
            layer_norm_eps=1e-6,
            # with ConvNeXt's 1e-6, a small network stays almost linear in a few epochs
            layer_scale_init_value=1.0,
        )
        self.logmel = LogMel(**front_end(settings))
        self.bn0 = nn.BatchNorm2d(settings.mels)
        self.model = ConvNextModel(config)
        self.sample_rate, self.width = settings.sample_rate, settings.widths[-1]
        self.frame_seconds = self.reduction * settings.hop / settings.sample_rate

    def frontend(self, waveform: Tensor, lengths: Tensor) -> Padded:
        shortest = (self.reduction - 1) * self.logmel.hop
        return self.logmel(*at_least(waveform, lengths, shortest))

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        x = masked_norm(self.bn0, logmel[:, None].transpose(1, 3), lengths)  # (B, M, T, 1)
        x = zero_past(x.transpose(1, 3), lengths)
        x = self.model.embeddings(F.pad(x, (0, 0, STEM_PADDING, STEM_PADDING)))
        lengths = (lengths + 2 * STEM_PADDING) // PATCH
        stages: Any = self.model.encoder.stages
        for index, stage in enumerate(stages):
            for layer in stage.downsampling_layer:
                x = layer(x)
            if index:
                lengths = lengths // 2
            for layer in stage.layers:  # the depthwise convolution needs zeros past the end
                x = layer(zero_past(x, lengths))
        return Padded(x.mean(3).transpose(1, 2), lengths)


NAMES = (  # of facebookresearch/ConvNeXt → transformers'
    (r"^downsample_layers\.0\.0\.", "model.embeddings.patch_embeddings."),
    (r"^downsample_layers\.0\.1\.", "model.embeddings.layernorm."),
    (r"^downsample_layers\.(\d+)\.(\d+)\.", r"model.encoder.stages.\1.downsampling_layer.\2."),
    (r"^stages\.(\d+)\.(\d+)\.norm\.", r"model.encoder.stages.\1.layers.\2.layernorm."),
    (r"^stages\.(\d+)\.(\d+)\.gamma$", r"model.encoder.stages.\1.layers.\2.layer_scale_parameter"),
    (r"^stages\.(\d+)\.(\d+)\.", r"model.encoder.stages.\1.layers.\2."),
    (r"^norm\.", "model.layernorm."),
)


def build(settings: ConvNextEncoderConfig, location: Path) -> ConvNextEncoder:
    """The encoder with Pellegrini et al.'s weights or the tagging stage's."""
    encoder = ConvNextEncoder(settings)
    checkpoints.load_trained(encoder, encoder.logmel, settings, location, UNUSED, NAMES)
    return encoder

"""PANNs' CNN14 and CNN10 (Kong et al. 2020, table 1), with panns_inference's own blocks.

The package panns_inference runs wget and writes to the home folder when it is imported, so only
its module of model classes is executed here, under a parent that does nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config import PannsEncoder as Settings
from pipeline.encoders import weights as files
from pipeline.encoders.base import SpectrogramEncoder, masked
from pipeline.encoders.spectrogram import LogMel, at_least
from pipeline.errors import EarwitnessError
from pipeline.models.batch import Padded

ALIAS = "_panns_models"  # the stub parent's name
FRONT_END = ("sample_rate", "n_fft", "hop", "mels", "fmin", "fmax")
UNUSED = ("fc1.", "fc_audioset.", "spectrogram_extractor.", "logmel_extractor.", files.HEAD)


@cache
def panns_models() -> ModuleType:
    """panns_inference/models.py, executed without the package around it.

    Its import of matplotlib, which it does not use and which writes a cache to the home folder, is
    answered by an empty module.
    """
    spec = importlib.util.find_spec("panns_inference")  # finds it, does not run it
    if spec is None or not spec.submodule_search_locations:
        raise EarwitnessError("panns-inference is not installed; `pip install panns-inference`")
    parent = ModuleType(ALIAS)
    parent.__path__ = list(spec.submodule_search_locations)
    pyplot = ModuleType("matplotlib.pyplot")
    plotting = ModuleType("matplotlib")
    plotting.pyplot = pyplot  # type: ignore[attr-defined]
    stubs = {ALIAS: parent, "matplotlib": plotting, "matplotlib.pyplot": pyplot}
    before = {name: sys.modules.get(name) for name in stubs}
    import torchlibrosa.stft  # noqa: F401  heavy, and must not meet the stubs

    sys.modules.update(stubs)
    try:
        return importlib.import_module(f"{ALIAS}.models")
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class PannsEncoder(SpectrogramEncoder):
    """CNN14: six blocks, 2048-d frames every 32 log-mel frames; CNN10: four, 512-d, every 16.

    Frames are the mean over frequency after the last block, as captioning systems take them. A
    clip ends in its own reflection, then in the convolutions' zeros, in a batch as alone; a clip
    shorter than one frame is filled up with silence to one.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        block: Any = panns_models().ConvBlock
        count = 6 if settings.model == "cnn14" else 4
        pools = (5, 1) if settings.model == "cnn14" else (4, 0)  # halved by 5 of 6, by 4 of 4
        self.pools = [2] * pools[0] + [1] * pools[1]
        self.reduction = 2 ** pools[0]
        if settings.mels < self.reduction:
            raise EarwitnessError(f"panns {settings.model} needs mels of {self.reduction} or more")
        widths = [1, *(settings.channels * 2**index for index in range(count))]
        self.logmel = LogMel(*(getattr(settings, name) for name in FRONT_END))
        self.bn0 = nn.BatchNorm2d(settings.mels)
        for index in range(count):
            setattr(self, f"conv_block{index + 1}", block(widths[index], widths[index + 1]))
        # 1.3 to 1.8 times as fast on a CPU
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sample_rate, self.width = settings.sample_rate, widths[-1]
        self.frame_seconds = self.reduction * settings.hop / settings.sample_rate

    def frontend(self, waveform: Tensor, lengths: Tensor) -> Padded:
        shortest = (self.reduction - 1) * self.logmel.hop
        return self.logmel(*at_least(waveform, lengths, shortest))

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        x = self.bn0(logmel[:, None].transpose(1, 3)).transpose(1, 3)  # (B, 1, T, M)
        for index, pool in enumerate(self.pools):
            block = getattr(self, f"conv_block{index + 1}")
            x = F.relu_(block.bn1(block.conv1(masked(x, lengths))))
            x = F.relu_(block.bn2(block.conv2(masked(x, lengths))))
            if pool > 1:
                x = F.avg_pool2d(x, pool)
                lengths = lengths // pool
            x = F.dropout(x, p=0.2, training=self.training)  # PANNs' own
        return Padded(x.mean(3).transpose(1, 2), lengths)


def build(settings: Settings, weights: Path | None) -> PannsEncoder:
    """The encoder with its weights: PANNs' own checkpoints, or those of the tagging stage."""
    encoder = PannsEncoder(settings)
    location = files.locate(settings, weights, files.default_hub(settings))
    if settings.weights == "tagging":
        wanted = {name: getattr(settings, name) for name in FRONT_END}
        files.check_front_end(wanted, files.trained_settings(location), location)
    state = files.read_state(location)
    check_filters(state.get("logmel_extractor.melW"), encoder.logmel, location)
    files.load_state(encoder, state, location, UNUSED)
    return encoder


def check_filters(saved: Tensor | None, logmel: LogMel, source: Path) -> None:
    """PANNs-like checkpoints hold their mel filters (n_fft // 2 + 1, M): they must be ours.

    Raises:
        EarwitnessError: they were trained with another front end.
    """
    if saved is None:
        return
    same = saved.shape == logmel.filters.shape and torch.allclose(
        saved, logmel.filters, rtol=1e-2, atol=1e-5
    )
    if not same:
        raise EarwitnessError(
            f"{source}: its mel filters are not those of sample_rate, n_fft, mels, fmin and fmax"
            " in the settings; set them to what it was trained with"
        )

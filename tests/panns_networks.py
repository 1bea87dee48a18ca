"""PANNs' networks for tests: their own forward passes, at widths that a test can afford."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchlibrosa.stft import LogmelFilterBank, Spectrogram

from pipeline.encoders.conv_blocks import panns_models

FRONT_END = {
    "sample_rate": 16000,
    "n_fft": 512,
    "hop": 320,
    "mels": 32,
    "fmin": 50.0,
    "fmax": 8000.0,
}
SMALL = {**FRONT_END, "channels": 4}


def randomise(module: nn.Module) -> nn.Module:
    """Weights, and batch norms' running statistics, that no other network has."""
    generator = torch.Generator().manual_seed(3)
    for name, value in module.state_dict().items():
        if name.startswith(("spectrogram_extractor", "logmel_extractor")):
            continue
        norm = ".bn" in name or name.startswith(("bn", "pre_bn"))
        if norm and name.endswith(("running_var", "weight")):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif value.is_floating_point():
            value.copy_(value + 0.05 * torch.randn(value.shape, generator=generator))
    return module.eval()


def extractors(front_end: dict[str, float]) -> tuple[Spectrogram, LogmelFilterBank]:
    """torchlibrosa's, as PANNs' networks make them."""
    rate, n_fft = int(front_end["sample_rate"]), int(front_end["n_fft"])
    bank = LogmelFilterBank(
        sr=rate,
        n_fft=n_fft,
        n_mels=int(front_end["mels"]),
        fmin=front_end["fmin"],
        fmax=front_end["fmax"],
        ref=1.0,
        amin=1e-10,
        top_db=None,
    )
    return Spectrogram(n_fft=n_fft, hop_length=int(front_end["hop"]), win_length=n_fft), bank


def small_cnn14() -> nn.Module:
    """panns_inference's Cnn14 with its own forward pass, and blocks a sixteenth as wide."""
    models = panns_models()
    network: nn.Module = models.Cnn14.__new__(models.Cnn14)
    nn.Module.__init__(network)
    network.spectrogram_extractor, network.logmel_extractor = extractors(FRONT_END)
    network.bn0 = nn.BatchNorm2d(FRONT_END["mels"])
    widths = [1, 4, 8, 16, 32, 64, 128]
    for index in range(6):
        block = models.ConvBlock(widths[index], widths[index + 1])
        setattr(network, f"conv_block{index + 1}", block)
    network.fc1, network.fc_audioset = nn.Linear(128, 128), nn.Linear(128, 5)
    return randomise(network)


class Wavegram(nn.Module):
    """Wavegram-Logmel-CNN14 as PANNs' paper (3.3, figure 2) and its checkpoint's names have it.

    panns_inference has no class of it; one clip at a time, without padding or masks.
    """

    def __init__(self, front_end: dict[str, float], channels: int, classes: int = 5) -> None:
        super().__init__()
        block = panns_models().ConvBlock
        bins = int(front_end["mels"]) // 2
        self.bins = bins
        self.spectrogram_extractor, self.logmel_extractor = extractors(front_end)
        self.pre_conv0 = nn.Conv1d(1, 2 * bins, 11, stride=5, padding=5, bias=False)
        self.pre_bn0 = nn.BatchNorm1d(2 * bins)
        for index, (before, after) in enumerate(((2, 2), (2, 4), (4, 4))):
            pre_block = nn.Module()
            pre_block.conv1 = nn.Conv1d(before * bins, after * bins, 3, padding=1, bias=False)
            pre_block.conv2 = nn.Conv1d(
                after * bins, after * bins, 3, dilation=2, padding=2, bias=False
            )
            pre_block.bn1, pre_block.bn2 = (nn.BatchNorm1d(after * bins) for _ in range(2))
            setattr(self, f"pre_block{index + 1}", pre_block)
        self.pre_block4 = block(4, channels)
        self.bn0 = nn.BatchNorm2d(int(front_end["mels"]))
        self.conv_block1, self.conv_block2 = block(1, channels), block(2 * channels, 2 * channels)
        for index in range(3, 7):
            wide = channels * 2 ** (index - 1)
            setattr(self, f"conv_block{index}", block(wide // 2, wide))
        width = channels * 32
        self.fc1, self.fc_audioset = nn.Linear(width, width), nn.Linear(width, classes)

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """(1, samples) → (1, T, D) frames and (1, D) the clip's embedding."""
        wave = F.relu(self.pre_bn0(self.pre_conv0(waveform[:, None])))
        for block in (self.pre_block1, self.pre_block2, self.pre_block3):
            wave = F.relu(block.bn1(block.conv1(wave)))
            wave = F.relu(block.bn2(block.conv2(wave)))
            wave = F.max_pool1d(wave, 4)
        wave = wave.reshape(1, 4, self.bins, -1).transpose(2, 3)
        wave = self.pre_block4(wave, pool_size=(2, 1), pool_type="avg")
        x = self.logmel_extractor(self.spectrogram_extractor(waveform))
        x = self.bn0(x.transpose(1, 3)).transpose(1, 3)
        x = self.conv_block1(x, pool_size=(2, 2), pool_type="avg")
        shared = min(x.shape[2], wave.shape[2])
        x = torch.cat([x[:, :, :shared], wave[:, :, :shared]], dim=1)
        for index in range(2, 6):
            x = getattr(self, f"conv_block{index}")(x, pool_size=(2, 2), pool_type="avg")
        x = self.conv_block6(x, pool_size=(1, 1), pool_type="avg").mean(3)
        embedding = F.relu(self.fc1(x.amax(2) + x.mean(2)))
        return x.transpose(1, 2), embedding


def as_sjtu(network: nn.Module, prefix: str = "audio_encoder.") -> dict[str, Tensor]:
    """A CNN14's tensors as SJTU's CLAP has them (wsntxxn/DCASE2022T6_CLAP, models/)."""
    state = {
        f"{prefix}{name}": value
        for name, value in network.state_dict().items()
        if not name.startswith(("spectrogram_extractor", "logmel_extractor", "fc_audioset"))
    }
    extractor = f"{prefix}melspec_extractor"
    state[f"{extractor}.spectrogram.window"] = torch.hann_window(FRONT_END["n_fft"])
    state[f"{extractor}.mel_scale.fb"] = network.logmel_extractor.melW.detach().clone()
    beside = {"audio_proj.weight": (8, 128), "text_encoder.model.pooler.dense.weight": (4, 4)}
    return state | {name: torch.randn(shape) for name, shape in beside.items()}


def save_checkpoint(network: nn.Module, path: Path) -> Path:
    """As PANNs' own: the weights beside the state of the sampler."""
    sampler = {"indexes": np.arange(5), "pointer": np.int64(3)}
    torch.save({"iteration": 1, "model": network.state_dict(), "sampler": sampler}, path)
    return path

"""VGGish (Hershey et al. 2017): a VGG over log-mel patches of 0.96 s, one embedding each.

The tensors' names are those of torchvggish, a port whose released file holds Google's weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.config.encoders import VggishEncoderConfig
from pipeline.download import Checksum
from pipeline.encoders import checkpoints
from pipeline.encoders.base import SpectrogramEncoder
from pipeline.encoders.conv_blocks import masked_norm
from pipeline.encoders.fbank import kaldi_filters
from pipeline.encoders.sources import Hub, HubFile
from pipeline.encoders.spectrogram import at_least
from pipeline.tensors import Padded

_RELEASE = "https://github.com/harritaylor/torchvggish/releases/download/v0.1"
_SHA256 = "10086976245803799d9194e9a73d9b6c1549c71d1b80106f5cade5608a561f4b"
HUB = Hub(file=HubFile(f"{_RELEASE}/vggish-10086976.pth", Checksum("sha256", _SHA256)))
SAMPLE_RATE = 16000  # this and the following: VGGish
SAMPLES = 400  # of a window: 25 ms
HOP = 160  # 10 ms
N_FFT = 512
MELS, FMIN, FMAX = 64, 125.0, 7500.0
OFFSET = 0.01  # added before the logarithm
PATCH = 96  # log-mel frames: 0.96 s
PLAN = (1, "pool", 2, "pool", 4, 4, "pool", 8, 8, "pool")  # widths, as multiples of the first
REDUCTION = 16  # of time and of frequency, by four poolings
UNUSED = ("pproc.", checkpoints.HEAD)  # YouTube-8M's principal components; a tagger's head


class VggishEncoder(SpectrogramEncoder):
    """128-d frames, one a patch, every ``hop_seconds``: the last layer before its ReLU.

    That ReLU and the principal components after it are left out, as in DCASE 2022's baseline. The
    last patch is padded with silence so that no sound is lost; VGGish drops it. A patch holds one
    clip alone, so a clip is the same in a batch.
    """

    window: Tensor  # (SAMPLES,)
    filters: Tensor  # (N_FFT // 2 + 1, M)

    def __init__(self, settings: VggishEncoderConfig) -> None:
        super().__init__()
        self.hop = max(1, round(settings.hop_seconds * SAMPLE_RATE / HOP))  # log-mel frames
        self.features, channels = _convolutions(settings.channels)
        convolutions = [each for each in self.features if isinstance(each, nn.Conv2d)]
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(each.out_channels) for each in convolutions if settings.normalise
        )
        flat = channels * (PATCH // REDUCTION) * (MELS // REDUCTION)
        self.embeddings = nn.Sequential(
            nn.Linear(flat, settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, settings.width),
        )
        filters = kaldi_filters(SAMPLE_RATE, N_FFT, MELS, FMIN, FMAX)
        self.register_buffer("window", torch.hann_window(SAMPLES), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)
        self.sample_rate, self.width = SAMPLE_RATE, settings.width
        self.frame_seconds = self.hop * HOP / SAMPLE_RATE

    def frontend(self, waveform: Tensor, lengths: Tensor) -> Padded:
        """(B, samples), (B,) → (B, T, M) natural logs of magnitudes; whole patches of each clip."""
        with torch.autocast(waveform.device.type, enabled=False):
            valid = (lengths - SAMPLES).clamp(min=0).add(HOP - 1) // HOP + 1
            # the last patch has frames of the sound that are not in the patch before it
            new = valid - max(0, PATCH - self.hop)
            patches = ((new + self.hop - 1) // self.hop).clamp(min=1)
            frames = (patches - 1) * self.hop + PATCH
            samples = (int(frames.max()) - 1) * HOP + SAMPLES
            waveform, _ = at_least(waveform.float(), lengths, samples)
            windows = waveform[:, :samples].unfold(1, SAMPLES, HOP) * self.window  # (B, T, samples)
            values = (torch.fft.rfft(windows, N_FFT).abs() @ self.filters + OFFSET).log()
        return Padded(values, frames)

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        count = (lengths - PATCH) // self.hop + 1
        patches = logmel.unfold(1, PATCH, self.hop).transpose(2, 3)  # (B, N, 96, M)
        valid = torch.arange(patches.shape[1], device=count.device) < count[:, None]
        values = self._maps(patches.flatten(0, 1)[:, None], valid.flatten())  # (B N, C, 6, 4)
        values = self.embeddings(values.permute(0, 2, 3, 1).flatten(1))  # TensorFlow's order
        return Padded(values.unflatten(0, patches.shape[:2]), count)

    def _maps(self, values: Tensor, valid: Tensor) -> Tensor:
        """(B N, 1, 96, M) patches, (B N,) bool, false for padding → (B N, C, 6, 4)."""
        if not self.norms:
            out: Tensor = self.features(values)
            return out
        norms = iter(self.norms)
        for layer in self.features:
            values = layer(values)
            if isinstance(layer, nn.Conv2d):
                values = masked_norm(next(norms), values, valid * values.shape[2])
        return values


def _convolutions(channels: int) -> tuple[nn.Sequential, int]:
    """VGGish's convolutions, and the channels of the last."""
    layers: list[nn.Module] = []
    width = 1
    for step in PLAN:
        if isinstance(step, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(width, step * channels, 3, padding=1), nn.ReLU()]
        width = step * channels
    return nn.Sequential(*layers), width


def build(settings: VggishEncoderConfig, location: Path) -> VggishEncoder:
    """The encoder with torchvggish's released weights or the tagging stage's."""
    encoder = VggishEncoder(settings)
    checkpoints.load_state(encoder, checkpoints.read_state(location), location, UNUSED)
    return encoder

"""HTSAT (Chen et al. 2022), as CLAP's audio branch, on transformers' ClapAudioModel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import ClapAudioModel

from pipeline.config.encoders import HtsatEncoderConfig
from pipeline.encoders import checkpoints
from pipeline.encoders.base import SpectrogramEncoder
from pipeline.encoders.clap_checkpoint import TRAINING, clap_names, is_fused
from pipeline.encoders.htsat_checkpoint import (
    FRONT,
    FUSION,
    HEADS,
    HtsatSizes,
    htsat_config,
    htsat_sizes,
)
from pipeline.encoders.sources import Hub
from pipeline.encoders.spectrogram import LogMel, front_end
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

HUB = Hub(repository="laion/clap-htsat-unfused")
PATCH = 4  # HTSAT's patch and stride
LARGEST = 4096  # side of the square, far more than any has
FILTERS = "logmel_extractor.melW"
CLAP_NAMES = {  # names in CLAP's feature extractor → ours
    "sampling_rate": "sample_rate",
    "fft_window_size": "n_fft",
    "hop_length": "hop",
    "feature_size": "mels",
    "frequency_min": "fmin",
    "frequency_max": "fmax",
}
NAME = "model.audio_encoder."  # begins the names of the network's tensors here
NAMES = (  # of a ClapModel or a ClapAudioModel → this encoder's
    (r"^audio_model\.", "model."),
    (r"^audio_encoder\.", NAME),
)
UNUSED = (
    *("audio_projection.", "text_model.", "text_projection.", checkpoints.HEAD),
    *(*TRAINING, *FRONT, *HEADS),
    *(f"{NAME}{part}" for part in FUSION),  # a window is never longer than the input
)
Scale = Literal["slaney", "htk"]


class HtsatEncoder(SpectrogramEncoder):
    """Frames every 4 × 2 ** (stages − 1) log-mel frames: 768-d, 32 in CLAP's ten seconds.

    HTSAT folds time into a square of ``spec_size``, so its input is always ``window_seconds`` long.
    A shorter window is repeated as often as it fits whole, then padded with zeros (CLAP's
    "repeatpad"); the frames of the repetitions are not valid. Frames are the mean over frequency
    of the last feature map, in the order of time.
    """

    def __init__(self, settings: HtsatEncoderConfig, scale: Scale = "slaney") -> None:
        """``scale``: of the mel filters."""
        super().__init__()
        self.fold, self.time_bins = _geometry(settings)
        stages = len(settings.depths)
        self.logmel = LogMel(**front_end(settings), scale=scale)
        sizes = HtsatSizes(**{name: getattr(settings, name) for name in HtsatSizes._fields})
        # HTSAT's dropout; CLAP's 0.1 slows a small one's training
        config = htsat_config(sizes, settings.mels, settings.spec_size, hidden_dropout_prob=0.0)
        self.model = ClapAudioModel(config)
        self.window_samples = round(settings.window_seconds * settings.sample_rate)
        self.sample_rate, self.width = settings.sample_rate, self.model.config.hidden_size
        self.frames = self.time_bins // (PATCH * 2 ** (stages - 1))  # T of every window
        full = self.window_samples // settings.hop + 1
        # fewer log-mel frames than the square holds are stretched to fill it
        self.bins_per_frame = min(full, self.time_bins) / self.frames
        self.frame_seconds = self.bins_per_frame * settings.hop / settings.sample_rate

    def frontend(self, waveform: Tensor, lengths: Tensor) -> Padded:
        waveform = repeat_padded(waveform.float(), lengths, self.window_samples)
        full = torch.full_like(lengths, self.window_samples)
        values = self.logmel(waveform, full).values[:, : self.time_bins]
        frames = (lengths // self.logmel.hop + 1).clamp(max=values.shape[1])
        return Padded(values, frames)

    def places(self, lengths: Tensor, frames: int) -> Tensor:
        return repeated_frames(lengths, frames, self.logmel.hop, self.window_samples)

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        mapped = self.model(input_features=logmel[:, None]).last_hidden_state  # (B, D, F, T)
        frames = torch.ceil((lengths - 1) / self.bins_per_frame).long().clamp(1, self.frames)
        return Padded(mapped.mean(2).transpose(1, 2), frames)


def repeat_padded(waveform: Tensor, lengths: Tensor, samples: int) -> Tensor:
    """(B, samples): each clip as often as it fits whole, then zeros (CLAP's "repeatpad").

    Raises:
        EarwitnessError: a clip is longer than ``samples``.
    """
    if waveform.shape[1] > samples:
        raise EarwitnessError(
            f"a window of {waveform.shape[1]} samples is longer than window_seconds ({samples});"
            " cut clips into windows first"
        )
    at = torch.arange(samples, device=waveform.device)
    lengths = lengths[:, None]
    return torch.gather(waveform, 1, at % lengths) * (at < samples // lengths * lengths)


def repeated_frames(lengths: Tensor, frames: int, hop: int, samples: int) -> Tensor:
    """(B, T): the log-mel frame that each frame of :func:`repeat_padded` repeats; −1 in zeros."""
    at = torch.arange(frames, device=lengths.device) * hop
    lengths = lengths[:, None]
    return torch.where(at <= samples // lengths * lengths, at % lengths // hop, -1)


def _geometry(settings: HtsatEncoderConfig) -> tuple[int, int]:
    """How often time is folded, and the log-mel frames that the square holds.

    Raises:
        EarwitnessError: the settings do not fold into a square.
    """
    fold = settings.spec_size // settings.mels
    stages = len(settings.depths)
    side = settings.spec_size // (PATCH * 2 ** (stages - 1))  # of the last map
    width = settings.embed_dim
    problem = None
    if stages != len(settings.heads):
        problem = "depths and heads must be equally long"
    elif fold * settings.mels != settings.spec_size:
        problem = f"spec_size {settings.spec_size} must be a multiple of mels {settings.mels}"
    elif settings.spec_size % (PATCH * 2 ** (stages - 1)) or side % fold:
        problem = (
            f"spec_size {settings.spec_size} shrinks to {side} in {stages} stages, which must be a"
            f" multiple of spec_size / mels = {fold}; take fewer stages or more mels"
        )
    elif any(width * 2**index % heads for index, heads in enumerate(settings.heads)):
        problem = f"each stage's width ({width}, doubling) must be a multiple of its heads"
    bins = settings.spec_size * fold
    if problem is None and settings.window_seconds * settings.sample_rate > bins * settings.hop:
        longest = bins * settings.hop / settings.sample_rate
        problem = f"window_seconds is at most {longest:g} with this hop, mels and spec_size"
    if problem:
        raise EarwitnessError(f"htsat: {problem}")
    return fold, bins


def build(settings: HtsatEncoderConfig, location: Path) -> HtsatEncoder:
    """The encoder with the tagging stage's weights, or published ones, which bring their sizes.

    Published: a CLAP's folder, fused or not, LAION's .pt, or HTS-AT's .ckpt.
    """
    if settings.weights.kind == "tagging":
        encoder = HtsatEncoder(settings)
        checkpoints.load_trained(encoder, encoder.logmel, settings, location, UNUSED)
        return encoder
    state = checkpoints.renamed(clap_names(checkpoints.read_state(location)), NAMES)
    extractor = checkpoints.saved_settings(location / "preprocessor_config.json")
    known = {ours: extractor[theirs] for theirs, ours in CLAP_NAMES.items() if theirs in extractor}
    checkpoints.check_front_end(front_end(settings), known, location)
    fused = is_fused(state) if not extractor else extractor.get("truncation") == "fusion"
    scale: Scale = "htk" if fused else "slaney"  # as LAION's code and ClapFeatureExtractor
    sizes = htsat_sizes(state, NAME, location)._asdict() | _square(location / "config.json")
    with checkpoints.reading(location):
        encoder = HtsatEncoder(settings.model_copy(update=sizes), scale)
    if scale == "slaney":
        checkpoints.check_filters(state.get(FILTERS), encoder.logmel, location)
    checkpoints.load_state(encoder, state, location, UNUSED)
    return encoder


def _square(path: Path) -> dict[str, int]:
    """The one size that no tensor shows, where a CLAP's config.json says it."""
    saved = checkpoints.saved_settings(path)
    audio = saved.get("audio_config", saved)
    if not isinstance(audio, dict) or "spec_size" not in audio:
        return {}
    size = audio["spec_size"]
    if type(size) is not int or not PATCH <= size <= LARGEST:
        raise EarwitnessError(f"{path}: spec_size is {size!r}; download the weights again")
    return {"spec_size": size}

"""CLAP's audio side (Wu et al. 2023): one projected, normalised embedding a window."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ClapAudioModelWithProjection, ClapConfig, ClapFeatureExtractor

from pipeline.config.encoders import ClapEncoderConfig
from pipeline.encoders import checkpoints
from pipeline.encoders.base import SpectrogramEncoder
from pipeline.encoders.clap_checkpoint import (
    AUDIO,
    TRAINING,
    is_fused,
    laion_state,
    projection_width,
)
from pipeline.encoders.htsat import FILTERS, repeat_padded, repeated_frames
from pipeline.encoders.htsat_checkpoint import FRONT, HEADS, SPEC, htsat_config, htsat_sizes
from pipeline.encoders.sources import Hub
from pipeline.encoders.spectrogram import LogMel
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

HUB = Hub(repository="laion/clap-htsat-unfused")
# of the extractor's numbers, the largest that make sense
WHOLE = {"sampling_rate": 10**6, "fft_window_size": 10**6, "hop_length": 10**6}
WHOLE |= {"feature_size": 10**4, "nb_max_samples": 10**8}
# of LAION's files: LAION-AI/CLAP, clap_module/model_configs/HTSAT-tiny.json and HTSAT-base.json
FRONT_END: dict[str, Any] = {
    "sampling_rate": 48000,
    "fft_window_size": 1024,
    "hop_length": 480,
    "feature_size": 64,
    "frequency_min": 50,
    "frequency_max": 14000,
    "max_length_s": 10,
}
UNUSED = ("text_model.", "text_projection.", *TRAINING, *FRONT, *HEADS)
SHORTER_MELS = 4  # a model with fusion reads four spectrograms: here four times the same


class ClapEncoder(SpectrogramEncoder):
    """One D-wide frame a window, equal to ``ClapModel.get_audio_features``.

    CLAP's extractor crops sound longer than its input (10 s) at random; here a clip is cut into
    windows, whose embeddings are averaged. A shorter window is padded by the extractor's
    ``padding``. For a model with fusion, no window is marked as longer than the input; CLAP's
    extractor marks a random clip of each batch.
    """

    pooled = True

    def __init__(self, config: ClapConfig, extractor: ClapFeatureExtractor, seconds: float) -> None:
        super().__init__()
        self.padding = str(extractor.padding)
        audio: Any = config.audio_config
        self.fusion = bool(audio.enable_fusion)
        self.window_samples = int(extractor.nb_max_samples)
        if seconds * extractor.sampling_rate > self.window_samples:
            longest = self.window_samples / extractor.sampling_rate
            raise EarwitnessError(f"clap: window_seconds is at most {longest:g} with these weights")
        self.logmel = LogMel(
            extractor.sampling_rate,
            extractor.fft_window_size,
            extractor.hop_length,
            extractor.feature_size,
            extractor.frequency_min,
            extractor.frequency_max,
            "htk" if extractor.truncation == "fusion" else "slaney",
        )
        self.model = ClapAudioModelWithProjection(audio)
        self.sample_rate = int(extractor.sampling_rate)
        self.width = int(config.projection_dim)
        self.frame_seconds = seconds

    def frontend(self, waveform: Tensor, lengths: Tensor) -> Padded:
        waveform = _padded(waveform.float(), lengths, self.window_samples, self.padding)
        values, full = self.logmel(waveform, torch.full_like(lengths, self.window_samples))
        return Padded(values, (lengths // self.logmel.hop + 1).minimum(full))

    def places(self, lengths: Tensor, frames: int) -> Tensor | None:
        if self.padding == "pad":
            return None
        whole = self.window_samples
        if self.padding == "repeat":  # the last repetition is cut, not left out
            whole += int(lengths.max())
        return repeated_frames(lengths, frames, self.logmel.hop, whole)

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        features = logmel[:, None]
        longer = None
        if self.fusion:
            features = features.expand(-1, SHORTER_MELS, -1, -1)
            longer = torch.zeros(len(logmel), 1, dtype=torch.bool, device=logmel.device)
        embedding = self.model(input_features=features, is_longer=longer).audio_embeds
        return Padded(F.normalize(embedding, dim=-1)[:, None], torch.ones_like(lengths))


def _padded(waveform: Tensor, lengths: Tensor, samples: int, padding: str) -> Tensor:
    """(B, samples), padded as by CLAP's extractor: ``repeatpad``, ``repeat`` or zeros."""
    if padding == "repeatpad":
        return repeat_padded(waveform, lengths, samples)
    at = torch.arange(samples, device=waveform.device)
    lengths = lengths[:, None]
    values = torch.gather(waveform, 1, at % lengths)
    return values if padding == "repeat" else values * (at < lengths)


class _ClapSound(NamedTuple):
    """What a ClapModel's folder or LAION's file says."""

    config: ClapConfig
    extractor: ClapFeatureExtractor
    state: Mapping[str, Tensor]  # under the names of a ClapModel


def build(settings: ClapEncoderConfig, location: Path) -> ClapEncoder:
    """The encoder with the weights of a ClapModel's folder, or of LAION's .pt."""
    saved = (_folder if location.is_dir() else _laion)(location)
    with checkpoints.reading(location), torch.device("meta"):
        audio: Any = saved.config.audio_config
        planned = ClapAudioModelWithProjection(audio)
    checkpoints.check_state(planned, saved.state, location, UNUSED)
    with checkpoints.reading(location):
        encoder = ClapEncoder(saved.config, saved.extractor, settings.window_seconds)
    if not encoder.fusion:  # with fusion, LAION's network has filters that it does not use
        checkpoints.check_filters(saved.state.get(FILTERS), encoder.logmel, location)
    checkpoints.load_state(encoder.model, saved.state, location, UNUSED)
    # sizes that do not fit each other show only now
    with checkpoints.reading(location), torch.inference_mode():
        noise = torch.rand(1, encoder.sample_rate, generator=torch.Generator().manual_seed(0))
        values = encoder.eval()(noise - 0.5, torch.tensor([encoder.sample_rate])).values
        if not values.isfinite().all():
            raise ValueError("gives features that are not finite")
    return encoder


def _folder(location: Path) -> _ClapSound:
    with checkpoints.reading(location):
        config = ClapConfig.from_pretrained(location, local_files_only=True)
        extractor = ClapFeatureExtractor.from_pretrained(location, local_files_only=True)
        for name, most in WHOLE.items():
            value = getattr(extractor, name)
            if not (isinstance(value, int) and 0 < value <= most):
                raise ValueError(f"{name} is {value}")
    return _ClapSound(config, extractor, checkpoints.read_state(location))


def _laion(location: Path) -> _ClapSound:
    """LAION's file: its sizes are those of its tensors, its front end is always the same."""
    state = laion_state(location, "clap")
    sizes, fused = htsat_sizes(state, AUDIO, location), is_fused(state)
    width = projection_width(state, "audio_projection", location)
    fusion: dict[str, Any] = {"enable_fusion": fused, "fusion_type": "aff_2d" if fused else None}
    with checkpoints.reading(location):
        audio = htsat_config(sizes, FRONT_END["feature_size"], SPEC, **fusion)
        config = ClapConfig(audio_config=audio.to_dict(), projection_dim=width)
        extractor = ClapFeatureExtractor(
            **FRONT_END, truncation="fusion" if fused else "rand_trunc", padding="repeatpad"
        )
    return _ClapSound(config, extractor, state)

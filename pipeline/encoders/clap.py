"""CLAP's audio side (Wu et al. 2023): one projected, normalised embedding a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ClapAudioModelWithProjection, ClapConfig, ClapFeatureExtractor

from pipeline.config.encoders import ClapEncoderConfig
from pipeline.encoders import checkpoints
from pipeline.encoders.base import SpectrogramEncoder
from pipeline.encoders.htsat import repeat_padded, repeated_frames
from pipeline.encoders.sources import Hub
from pipeline.encoders.spectrogram import LogMel
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

HUB = Hub(repository="laion/clap-htsat-unfused")
# of the extractor's numbers, the largest that make sense
WHOLE = {"sampling_rate": 10**6, "fft_window_size": 10**6, "hop_length": 10**6}
WHOLE |= {"feature_size": 10**4, "nb_max_samples": 10**8}
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


def build(settings: ClapEncoderConfig, location: Path) -> ClapEncoder:
    """The encoder with the weights of a ClapModel's folder."""
    if not location.is_dir():
        raise EarwitnessError(f"{location}: clap needs a folder written by save_pretrained")
    with checkpoints.reading(location):
        config = ClapConfig.from_pretrained(location, local_files_only=True)
        extractor = ClapFeatureExtractor.from_pretrained(location, local_files_only=True)
        for name, most in WHOLE.items():
            value = getattr(extractor, name)
            if not (isinstance(value, int) and 0 < value <= most):
                raise ValueError(f"{name} is {value}")
        with torch.device("meta"):
            planned = ClapAudioModelWithProjection(config.audio_config)  # type: ignore[arg-type]
    unused = ("text_model.", "text_projection.", "logit_scale_")
    state = checkpoints.read_state(location)
    checkpoints.check_state(planned, state, location, unused)
    with checkpoints.reading(location):
        encoder = ClapEncoder(config, extractor, settings.window_seconds)
    checkpoints.load_state(encoder.model, state, location, unused)
    # sizes that do not fit each other show only now
    with checkpoints.reading(location), torch.inference_mode():
        noise = torch.rand(1, encoder.sample_rate, generator=torch.Generator().manual_seed(0))
        values = encoder.eval()(noise - 0.5, torch.tensor([encoder.sample_rate])).values
        if not values.isfinite().all():
            raise ValueError("gives features that are not finite")
    return encoder

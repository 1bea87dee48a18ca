"""WavCaps' HTSAT against its definition, window by window and clip by clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from encoder_sounds import sound
from htsat_networks import Htsat, randomise_htsat
from torch import Tensor, nn
from wavcaps_networks import FRONT_END, WIDTH, save

from pipeline.config.encoders import SpecAugmentConfig, WavCapsEncoderConfig
from pipeline.encoders.base import Masks
from pipeline.encoders.registry import build_sound_encoder
from pipeline.errors import EarwitnessError


class Ase(nn.Module):
    """The sound side of ``ASE`` (models/ase_model.py) with models/htsat.py, of two small stages."""

    def __init__(self) -> None:
        super().__init__()
        htsat = Htsat(FRONT_END)
        htsat.audio_feats_extractor = nn.Module()
        htsat.audio_feats_extractor.mel_trans = htsat.spectrogram_extractor
        htsat.audio_feats_extractor.log_trans = htsat.logmel_extractor
        del htsat.spectrogram_extractor, htsat.logmel_extractor
        self.audio_encoder = nn.Module()
        self.audio_encoder.audio_enc = htsat
        self.audio_proj = nn.Sequential(nn.Linear(16, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))

    def encode_audio(self, waveform: Tensor) -> Tensor:
        """(1, samples) → (1, WIDTH)."""
        return F.normalize(self.audio_proj(self.pooled(waveform)), dim=-1)

    def pooled(self, waveform: Tensor) -> Tensor:
        """(1, samples) → (1, 16)."""
        htsat = self.audio_encoder.audio_enc
        x = htsat.audio_feats_extractor.mel_trans(waveform)
        x = htsat.audio_feats_extractor.log_trans(x)
        mean: Tensor = htsat.tokens(x).mean(0, keepdim=True)
        return mean


@pytest.fixture(scope="module")
@torch.no_grad()
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ase, Path]:
    torch.manual_seed(0)
    model = Ase().eval()
    randomise_htsat(model, model.audio_encoder.audio_enc.bn0)
    first = model.audio_proj[0]  # separates random sounds, whose encodings are almost equal
    first.bias.data = -first.weight.data @ model.pooled(sound(100000, seed=7)[0])[0]
    model.audio_proj[2].bias.data.zero_()
    path = tmp_path_factory.mktemp("wavcaps") / "htsat-bert.pt"
    return model, save(path, {**model.state_dict(), "temp": torch.tensor(0.07)})


def settings(path: Path, **changes: Any) -> WavCapsEncoderConfig:
    return WavCapsEncoderConfig(
        module="wavcaps", weights=str(path), **{"window_seconds": 10, **changes}
    )


def test_sound_is_encode_audio_of_each_clip_alone(made: tuple[Ase, Path]) -> None:
    model, path = made
    encoder = build_sound_encoder(settings(path), None)
    lengths = (320000, 100001, 5000)
    waveform, counts = sound(*lengths)
    waveform[1] *= torch.linspace(0, 9, 320000)  # the clips differ
    with torch.inference_mode():
        frames = encoder(waveform, counts)
        clips = [waveform[row : row + 1, :length] for row, length in enumerate(lengths)]
        expected = torch.cat([model.encode_audio(clip) for clip in clips])
    assert encoder.pooled and encoder.width == WIDTH and frames.lengths.tolist() == [1, 1, 1]
    assert (expected @ expected.T - torch.eye(3)).max() < 0.9
    torch.testing.assert_close(frames.values[:, 0], expected, atol=1e-4, rtol=0)


def test_spec_augment_reaches_the_trunk(made: tuple[Ase, Path]) -> None:
    encoder = build_sound_encoder(settings(made[1]), None)
    waveform, lengths = sound(64000, 64000)
    clean = encoder(waveform, lengths).values
    masked = encoder(waveform, lengths, Masks(SpecAugmentConfig(), torch.tensor([4, 9]))).values
    assert ((masked - clean).abs().amax((1, 2)) > 0.01).all()


def test_windows_longer_than_the_square_are_refused(made: tuple[Ase, Path]) -> None:
    _, path = made
    with pytest.raises(EarwitnessError, match=r"htsat-bert\.pt.* less than 10\.24 s at once"):
        build_sound_encoder(settings(path, window_seconds=10.24), None)
    longest = build_sound_encoder(settings(path, window_seconds=10.2399), None)
    waveform, lengths = sound(int(10.2399 * 32000))
    assert longest(waveform, lengths).values.shape == (1, 1, WIDTH)


def test_a_missing_tensor_is_named(made: tuple[Ase, Path], tmp_path: Path) -> None:
    state = made[0].state_dict()
    del state["audio_encoder.audio_enc.layers.1.blocks.0.attn.qkv.weight"]
    save(tmp_path / "cut.pt", state)
    message = r"cut\.pt: .*layers\.1\.blocks\.0\.attention\.self\.query\.weight is missing"
    with pytest.raises(EarwitnessError, match=message):
        build_sound_encoder(settings(tmp_path / "cut.pt"), None)

"""Loaders of published encoders: CLAP's folder and LAION's file of it, WavCaps', YAMNet's."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from pipeline.config.encoders import (
    ClapEncoderConfig,
    ClapTextEncoderConfig,
    HtsatEncoderConfig,
    WavCapsEncoderConfig,
    WavCapsTextEncoderConfig,
    YamnetEncoderConfig,
)
from pipeline.encoders import clap, clap_text, htsat, wavcaps, wavcaps_text, yamnet
from pipeline.encoders.base import SoundEncoder
from tests.conftest import REPOSITORY
from tests.fuzz.case import Loader
from tests.fuzz.formats import SAFETENSORS, TORCH
from tests.fuzz.harm import BYTES, JSON
from tests.fuzz.models import WORDS, make_tokenizer

sys.path.append(str(REPOSITORY / "tests"))  # as pytest does
FRONT_END = {"sample_rate": 8000, "n_fft": 256, "hop": 128, "mels": 32, "fmax": 4000}
FRONT_END |= {"window_seconds": 2}
YAMNET = REPOSITORY.parent / "shared/data/weights/yamnet.tflite"


def make_clap(good: Path) -> None:
    torch.manual_seed(0)
    audio = {
        "window_size": 4, "num_mel_bins": 32, "spec_size": 64, "patch_stride": [4, 4],
        "depths": [1, 1, 1], "num_attention_heads": [2, 2, 4], "num_hidden_layers": 3,
        "patch_embeds_hidden_size": 8, "hidden_size": 32, "enable_fusion": False,
    }  # fmt: skip
    text = {
        "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 24,
    }  # fmt: skip
    config = ClapConfig(audio_config=audio, text_config=text, projection_dim=12)
    ClapModel(config).save_pretrained(good / "clap")
    ClapFeatureExtractor(
        feature_size=32, sampling_rate=8000, hop_length=128, max_length_s=2,
        fft_window_size=256, frequency_min=50, frequency_max=4000, truncation="rand_trunc",
    ).save_pretrained(good / "clap")  # fmt: skip
    make_tokenizer(good / "clap")


def load_clap(home: Path) -> None:
    weights = {"weights": str(home)}
    settings = ClapEncoderConfig(module="clap", window_seconds=2, **weights)
    embed(clap.build(settings, home))
    embed(htsat.build(HtsatEncoderConfig(module="htsat", **FRONT_END, **weights), home))
    text = clap_text.build(ClapTextEncoderConfig(module="clap_text", **weights), home, "cpu")
    assert np.isfinite(text.encode(["a dog barks"]).values).all()


def make_wavcaps(good: Path) -> None:
    from wavcaps_networks import Ase, save, tokenizer_at

    torch.manual_seed(0)
    (good / "one").mkdir()
    save(good / "one/x.pt", dict(Ase().state_dict()))
    tokenizer_at(good / "one")


def load_wavcaps(home: Path) -> None:
    path = home / "x.pt"
    settings = WavCapsEncoderConfig(module="wavcaps", weights=str(path))
    embed(wavcaps.build(settings, path))
    text = WavCapsTextEncoderConfig(module="wavcaps_text", weights=str(path), tokenizer=str(home))
    assert np.isfinite(wavcaps_text.build(text, path, "cpu").encode(["a dog"]).values).all()


def make_laion(good: Path) -> None:
    from test_encoders_htsat_clap import save_tokenizer
    from test_encoders_published import laion, save_laion

    for fused in (False, True):
        folder = good / ("fused" if fused else "unfused")
        save_tokenizer(folder)
        save_laion(folder / "x.pt", laion(fused).state_dict())


def load_laion(home: Path) -> None:
    path = home / "x.pt"
    weights = {"weights": str(path)}
    embed(clap.build(ClapEncoderConfig(module="clap", **weights), path))
    embed(htsat.build(HtsatEncoderConfig(module="htsat", **weights), path))
    text = ClapTextEncoderConfig(module="clap_text", tokenizer=str(home), **weights)
    assert np.isfinite(clap_text.build(text, path, "cpu").encode(["a dog"]).values).all()


def make_yamnet(good: Path) -> None:
    (good / "one").mkdir()
    shutil.copy(YAMNET, good / "one/x.tflite")
    (good / "one/x.tflite").chmod(0o644)


def load_yamnet(home: Path) -> None:
    settings = YamnetEncoderConfig(module="yamnet", weights=str(home / "x.tflite"))
    embed(yamnet.build(settings, home / "x.tflite"))


def embed(encoder: SoundEncoder) -> None:
    """One second of noise."""
    sound = torch.randn(1, encoder.sample_rate, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        values = encoder.eval()(0.1 * sound, torch.tensor([encoder.sample_rate])).values
    assert bool(values.isfinite().all()), "features that are not finite"


FOLDER = {"model.safetensors": SAFETENSORS, "*.json": JSON}
LOADERS = [
    Loader("CLAP folders", make_clap, load_clap, FOLDER),
    Loader("LAION's checkpoints", make_laion, load_laion, {"x.pt": TORCH, "*.json": JSON}),
    Loader("WavCaps checkpoints", make_wavcaps, load_wavcaps, {"x.pt": TORCH, "*.json": JSON}),
]
if YAMNET.exists():  # not part of the repository
    LOADERS.append(Loader("YAMNet", make_yamnet, load_yamnet, {"x.tflite": BYTES}))

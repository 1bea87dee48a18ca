"""Loaders of published encoders: CLAP's folder and LAION's file of it, WavCaps', ViTs', ONNX …"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

from pipeline.config.encoders import (
    ClapEncoderConfig,
    ClapTextEncoderConfig,
    HtsatEncoderConfig,
    OnnxEncoderConfig,
    TransformersAudioEncoderConfig,
    VitEncoderConfig,
    WavCapsEncoderConfig,
    WavCapsTextEncoderConfig,
    YamnetEncoderConfig,
)
from pipeline.encoders import clap, clap_text, htsat, vit, wavcaps, wavcaps_text, yamnet
from pipeline.encoders.base import SoundEncoder
from pipeline.encoders.labels import class_names
from pipeline.encoders.registry import build_sound_encoder
from tests.conftest import REPOSITORY
from tests.fuzz.case import Loader
from tests.fuzz.formats import SAFETENSORS, TORCH
from tests.fuzz.harm import BYTES, CSV, JSON, TEXT
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


def make_vits(good: Path) -> None:
    """CED and EAT as on the hub, CED and M2D as torch files."""
    import vit_checkpoints

    ced = vit_checkpoints.save_hub(good / "one", vit_checkpoints.ced())
    (ced / "preprocessor_config.json").write_text('{"f_min": 0, "n_fft": 512}', encoding="utf-8")
    vit_checkpoints.save_hub(good / "two/eat", vit_checkpoints.eat(64))
    state = vit_checkpoints.original_ced(vit_checkpoints.ced())
    vit_checkpoints.save_torch(good / "three/ced.pt", state)
    vit_checkpoints.save_torch(
        good / "four" / vit_checkpoints.M2D_FOLDER / "x.pth", vit_checkpoints.m2d(joined=True)
    )


def load_vit(home: Path) -> None:
    """Which of them it is, its place says."""
    places = {"eat": "eat", "ced.pt": "ced", "m2d_vit_base-80x208p16x16-240101-mr7/x.pth": "m2d"}
    found = [(home / place, model) for place, model in places.items() if (home / place).exists()]
    path, model = found[0] if found else (home, "ced")
    values = {"module": "vit", "model": model, "heads": 4, "window_seconds": 2}
    settings = VitEncoderConfig(**values, weights=str(path), output="probabilities")
    embed(vit.build(settings, path))


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


def make_onnx(good: Path) -> None:
    """Beside a model, its tensors or its classes' names in each form."""
    from onnx_models import tagger

    names = {"x.csv": "index,name\n", "x.txt": "", "x.json": json.dumps(["dog", "rain", "c", "d"])}
    rows = {"x.csv": "0,dog\n1,rain\n2,c\n3,d\n", "x.txt": "dog\nrain\nc\nd\n", "x.json": ""}
    for name, head in names.items():
        folder = good / name[2:]
        folder.mkdir()
        tagger(folder / "m.onnx", external="m.onnx.data" if name == "x.csv" else "")
        (folder / name).write_text(head + rows[name], encoding="utf-8")


def load_onnx(home: Path) -> None:
    (labels,) = (path for path in home.glob("x.*") if "~" not in path.name)
    values = {"output": "probabilities", "activation": "sigmoid", "window_seconds": 2.0}
    settings = OnnxEncoderConfig(
        module="onnx", weights=str(home.resolve()), labels=str(labels), **values
    )
    encoder = build_sound_encoder(settings)
    assert len(class_names(settings)) == encoder.width
    embed(encoder)


def make_transformers_audio(good: Path) -> None:
    torch.manual_seed(0)
    sizes = {
        **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 4},
        "intermediate_size": 8,
    }
    ast = ASTConfig(**sizes, max_length=110, num_mel_bins=32, patch_size=8)
    wave = Wav2Vec2Config(
        **sizes,
        **{"conv_dim": (8, 8), "conv_kernel": (10, 3), "conv_stride": (8, 8)},
        **{"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2},
    )
    for name, model, extractor in (
        (
            "ast",
            ASTForAudioClassification(ast),
            ASTFeatureExtractor(max_length=110, num_mel_bins=32),
        ),
        ("wave", Wav2Vec2ForSequenceClassification(wave), Wav2Vec2FeatureExtractor()),
    ):
        model.config.id2label = {0: "dog", 1: "rain", 2: "bell", 3: "horn"}
        model.save_pretrained(good / name)
        extractor.save_pretrained(good / name)


def load_transformers_audio(home: Path) -> None:
    for output in ("frames", "probabilities"):
        settings = TransformersAudioEncoderConfig(
            module="transformers_audio",
            weights=str(home.resolve()),
            output=output,
            window_seconds=1,
        )
        embed(build_sound_encoder(settings))
    class_names(settings)


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
    Loader(
        "vision transformers",
        make_vits,
        load_vit,
        {"*.pt": TORCH, "*/*.pth": TORCH, "**/*.safetensors": SAFETENSORS, "*.json": JSON},
    ),
]
LOADERS += [
    Loader(
        "ONNX models",
        make_onnx,
        load_onnx,
        {"*.onnx": BYTES, "*.data": BYTES, "x.csv": CSV, "x.txt": TEXT, "x.json": JSON},
    ),
    Loader("audio models", make_transformers_audio, load_transformers_audio, FOLDER),
]
if YAMNET.exists():  # not part of the repository
    LOADERS.append(Loader("YAMNet", make_yamnet, load_yamnet, {"x.tflite": BYTES}))

"""Loaders of features and weights: HDF5, NumPy, safetensors, torch and word2vec."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.config.encoders import PannsEncoderConfig, Word2VecEncoderConfig
from pipeline.encoders import panns
from pipeline.encoders.panns import PannsEncoder
from pipeline.encoders.word2vec import Word2VecTextEncoder, WordVectors
from pipeline.features.bank import FeatureBank
from pipeline.features.resumable import Parts
from pipeline.features.store import FeatureStore, Header, write_store
from pipeline.training.checkpoints import Checkpoints, Progress
from tests.fuzz.case import Loader
from tests.fuzz.formats import HDF5, NPY, SAFETENSORS, TORCH, VECTORS

IDS = ("rain", "dög", "a-very-long-name_3")
WIDTH = 6
HEADER = Header("panns", {"hop": 320, "fmin": 50.0}, "abc", 0.01, views=2)
PANNS = PannsEncoderConfig(
    module="panns", weights="./x.pth", model="cnn10", channels=4, sample_rate=16000,
    n_fft=512, mels=16, fmax=8000.0,
)  # fmt: skip


def make_stores(good: Path) -> None:
    """Of sound with two views, and of captions."""
    lengths = np.array([3, 0, 5, 1, 2, 7])
    values = np.random.default_rng(0).standard_normal((18, WIDTH)).astype(np.float16)
    for name in ("sound", "text"):
        (good / name).mkdir()
    write_store(good / "sound/x.h5", HEADER, IDS, lengths, WIDTH, [values])
    header, ids = Header("minilm", {}, "abc", 0.0), [f"{name}#{k}" for name in IDS for k in (0, 1)]
    write_store(good / "text/x.h5", header, ids, lengths, WIDTH, [values])


def load_store(home: Path) -> None:
    store = FeatureStore.open(home / "x.h5")
    bank = FeatureBank(store, device_bytes=0, ram_bytes=1 << 20)
    bank.batch(torch.arange(len(bank)))
    assert len(bank) == len(store.ids) * store.views
    assert isinstance(store.header.settings, dict) and np.isfinite(store.header.frame_seconds)


def make_parts(good: Path) -> None:
    parts = Parts(good / "one/parts", [np.array([0, 2]), np.array([1])], WIDTH)
    parts._folder.mkdir(parents=True)
    values = np.ones((5, WIDTH), np.float16)
    parts.save(0, values, np.array([2, 3]))
    parts.save(1, values[:4], np.array([4]))


def load_parts(home: Path) -> None:
    """A damaged part is missing, and is made again."""
    parts = Parts(home / "parts", [np.array([0, 2]), np.array([1])], WIDTH)
    ones = np.ones((5, WIDTH), np.float16)
    for part in parts.missing():
        parts.save(part, ones[: 5 - part], np.array([2, 3] if part == 0 else [4]))
    parts.assemble(home / "x.h5", Header("x", {}, "0", 0.1), ["a", "b", "c"])
    assert FeatureStore.open(home / "x.h5").lengths.tolist() == [2, 4, 3]


def make_weights(good: Path) -> None:
    """An encoder's tensors in each form that is read."""
    torch.manual_seed(0)
    encoder = PannsEncoder(PANNS)
    state = {
        name: tensor.contiguous()
        for name, tensor in encoder.state_dict().items()
        if not name.startswith("logmel.")
    }
    for name in ("zip", "legacy", "safetensors", "nested"):
        (good / name).mkdir()
    torch.save({"model": state}, good / "zip/x.pth")
    torch.save(state, good / "legacy/x.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": state, "epoch": 3, "sampler": np.arange(4)}, good / "nested/x.pth")
    save_file(state, good / "safetensors/x.safetensors")


def load_weights(home: Path) -> None:
    found = next(iter(home.iterdir()), home / "x.pth")
    encoder = panns.build(PANNS, found)
    finite = all(bool(tensor.isfinite().all()) for tensor in encoder.state_dict().values())
    assert finite, "weights that are not finite"


def make_vectors(good: Path) -> None:
    words = {"dog": (1.0, -2.0, 0.5), "barks": (0.25, 4.0, -1.0), "café": (3.0, 3.0, 3.0)}
    records = [f"{word} ".encode() + struct.pack("<3f", *v) for word, v in words.items()]
    lines = [f"{word} {' '.join(map(repr, v))}" for word, v in words.items()]
    contents = {
        "binary": b"3 3\n" + b"\n".join(records) + b"\n",
        "google": b"3 3\n" + b"".join(records),
        "text": "\n".join(["3 3", *lines, ""]).encode(),
    }
    for name, content in contents.items():
        (good / name).mkdir()
        (good / name / "vectors.bin").write_bytes(content)


def load_vectors(home: Path) -> None:
    settings = Word2VecEncoderConfig(module="word2vec", weights="./vectors.bin")
    encoder = Word2VecTextEncoder(settings, WordVectors(home / "vectors.bin"))
    packed = encoder.encode(["a dog barks", "café", "rain"])
    assert packed.values.shape == (packed.lengths.sum(), encoder.width)
    assert np.isfinite(packed.values).all(), "vectors that are not finite"


def trainee() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return model, torch.optim.AdamW(model.parameters())


def make_training(good: Path) -> None:
    model, optimizer = trainee()
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    with Checkpoints(good / "one", "job", "0a") as checkpoints:
        progress = Progress(step=3, scores=[0.5], curves=[{"loss": 1.0}])
        checkpoints.save(model, optimizer, progress, improved=True)
        checkpoints.keep_epoch(model, progress, 2)


def load_training(home: Path) -> None:
    model, optimizer = trainee()
    with Checkpoints(home, "job", "0a") as checkpoints:
        progress = checkpoints.restore(model, optimizer)
        assert progress.best_score >= 0.5 or progress.step == 0 or progress.scores
        checkpoints.best(progress)
        checkpoints.average()
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()


LOADERS = (
    Loader("feature files", make_stores, load_store, {"x.h5": HDF5}),
    Loader("parts of extraction", make_parts, load_parts, {"parts/*.npy": NPY}),
    Loader("weights", make_weights, load_weights, {"*.pth": TORCH, "*.safetensors": SAFETENSORS}),
    Loader("word vectors", make_vectors, load_vectors, {"vectors.bin": VECTORS}),
    Loader(
        "training checkpoints", make_training, load_training, {"job-0a/*.safetensors": SAFETENSORS}
    ),
)

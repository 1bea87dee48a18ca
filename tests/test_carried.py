"""Encoders that are pickled, and computed with in a process that has none of their files."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from pipeline.config.encoders import (
    EncoderConfig,
    OnnxEncoderConfig,
    SentenceEncoderConfig,
    Word2VecEncoderConfig,
)
from pipeline.encoders.registry import build_sound_encoder, build_text_encoder, trunk
from tests.conftest import REPOSITORY
from tests.onnx_models import tagger
from tests.tiny import TINY

CAPTIONS = ["a dog barks, bark", "rain"]
SCRIPT = """
import pickle, sys
from pathlib import Path
import numpy as np
from tests.test_carried import CAPTIONS, frames, vectors
encoder = pickle.loads(Path(sys.argv[1]).read_bytes())
np.save(sys.argv[2], (vectors if hasattr(encoder, "encode") else frames)(encoder))
"""


def frames(encoder: Any) -> np.ndarray:
    sound = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, (1, 9000))).float()
    with torch.inference_mode():
        return encoder(sound, torch.tensor([9000])).values.numpy()


def vectors(encoder: Any) -> np.ndarray:
    return encoder.encode(CAPTIONS).values


def elsewhere(encoder: Any, files: Path, folder: Path) -> np.ndarray:
    content = pickle.dumps(encoder)
    shutil.rmtree(files)
    (folder / "pickled").write_bytes(content)
    call = [sys.executable, "-c", SCRIPT, str(folder / "pickled"), str(folder / "values.npy")]
    subprocess.run(call, cwd=REPOSITORY, check=True)
    return np.load(folder / "values.npy")


def word_vectors(folder: Path) -> Any:
    path = folder / "vectors.txt"
    path.write_text("3 2\ndog 1 2\nbark 4 5\nrain 7 9\n", encoding="utf-8")
    return build_text_encoder(Word2VecEncoderConfig(module="word2vec", weights=str(path)))


def onnx_model(folder: Path) -> Any:
    """With its weights in a file beside it."""
    tagger(folder / "model.onnx", external="model.onnx.data")
    settings = OnnxEncoderConfig(
        module="onnx", weights=str(folder), output="frames", frames="tokens", layout="b (f t) d",
        bands=3, window_seconds=1.0,
    )  # fmt: skip
    return build_sound_encoder(settings)


@pytest.mark.parametrize(
    ("make", "values"), [(word_vectors, vectors), (onnx_model, frames)], ids=["words", "onnx"]
)
def test_one_that_is_bound_to_files_comes_with_them(
    make: Callable[[Path], Any], values: Callable[[Any], np.ndarray], tmp_path: Path
) -> None:
    """Word2vec's index has hashes of words, which differ from process to process."""
    files = tmp_path / "files"
    files.mkdir()
    encoder = make(files)
    wanted = values(encoder)
    assert len(wanted) and wanted.any()
    np.testing.assert_array_equal(elsewhere(encoder, files, tmp_path), wanted)


def test_a_text_encoder_moves_with_what_computes() -> None:
    encoder = build_text_encoder(SentenceEncoderConfig(module="sentence"))
    encoder.to(torch.device("meta"))
    assert encoder.device.type == "meta"
    assert {p.device.type for p in encoder.model.parameters()} == {"meta"}  # type: ignore[attr-defined]


NETWORKS: tuple[dict[str, Any], ...] = (
    TINY["encoders"]["panns"],
    {"module": "htsat", "embed_dim": 24, "depths": [1, 1, 2], "heads": [2, 2, 4]},
    {"module": "convnext", "depths": [1, 1, 2], "widths": [24, 48, 96]},
    {"module": "vggish"},
)


@pytest.mark.parametrize("settings", NETWORKS, ids=[each["module"] for each in NETWORKS])
def test_a_network_gives_the_same_bits_elsewhere(settings: dict[str, Any], tmp_path: Path) -> None:
    """PANNs' blocks are of a module that cannot be imported by its name."""
    values = {**settings, "weights": "none"}
    encoder = trunk(TypeAdapter[EncoderConfig](EncoderConfig).validate_python(values)).eval()
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(frames(again), frames(encoder))
    if settings["module"] == "panns":  # and in a process that has not loaded that module
        (files := tmp_path / "files").mkdir()
        np.testing.assert_array_equal(elsewhere(encoder, files, tmp_path), frames(encoder))


@pytest.mark.parametrize("module", ["logmel", "fbank", "waveform"])
def test_a_front_end_gives_the_same_bits(module: str) -> None:
    own = TypeAdapter[EncoderConfig](EncoderConfig).validate_python({"module": module})
    encoder = build_sound_encoder(own)
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(frames(again), frames(encoder))

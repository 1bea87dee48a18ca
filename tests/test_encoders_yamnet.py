"""YAMNet against a plain interpreter, patch by patch, on real recordings."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from pipeline.config.encoders import SpecAugmentConfig, YamnetEncoderConfig
from pipeline.encoders.base import Masks
from pipeline.encoders.registry import build_sound_encoder
from pipeline.errors import EarwitnessError


@pytest.fixture(scope="module")
def model_file(shared_data: Path) -> Path:
    path = shared_data / "weights" / "yamnet.tflite"
    if not path.exists():
        pytest.skip("yamnet.tflite is not on this machine")
    return path


@pytest.fixture(scope="module")
def clips(shared_data: Path) -> list[np.ndarray]:
    """Three real recordings at 16 kHz, of three lengths."""
    found = []
    names = sorted((shared_data / "realsounds" / "evaluation").glob("*.ogg"))[:3]
    for path, seconds in zip(names, (5.0, 2.2, 0.4), strict=True):
        samples, rate = soundfile.read(path, dtype="float32")
        found.append(soxr.resample(samples, rate, 16000)[: int(seconds * 16000)])
    return found


def padded(clips: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    waveform = torch.full((len(clips), max(map(len, clips))), 0.5)
    for row, clip in enumerate(clips):
        waveform[row, : len(clip)] = torch.from_numpy(clip)
    return waveform, torch.tensor([len(clip) for clip in clips])


def by_hand(path: Path, clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, 1024) and (T, 521), one patch every 0.48 s, zeros after the end."""
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = Interpreter(str(path), experimental_preserve_all_tensors=True)
    model.allocate_tensors()
    names = {tensor["name"].split(";")[0]: tensor["index"] for tensor in model.get_tensor_details()}
    embeddings, scores = [], []
    start = 0
    while True:
        patch = np.zeros(15600, np.float32)
        piece = clip[start : start + 15600]
        patch[: len(piece)] = piece
        model.set_tensor(model.get_input_details()[0]["index"], patch)
        model.invoke()
        middle = names["yamnet_frames/global_average_pooling2d/Mean"]
        embeddings.append(model.get_tensor(middle)[0].copy())
        scores.append(model.get_tensor(model.get_output_details()[0]["index"])[0].copy())
        if start + 15600 >= len(clip):
            return np.stack(embeddings), np.stack(scores)
        start += 7680


def test_frames_are_the_interpreters(model_file: Path, clips: list[np.ndarray]) -> None:
    encoder = build_sound_encoder(
        YamnetEncoderConfig(module="yamnet", weights=str(model_file)), None
    )
    values, lengths = encoder(*padded(clips))
    assert encoder.width == 1024 and encoder.frame_seconds == pytest.approx(0.48)
    for row, clip in enumerate(clips):
        expected, _ = by_hand(model_file, clip)
        assert int(lengths[row]) == len(expected) and expected.max() > 1
        np.testing.assert_allclose(values[row, : len(expected)].numpy(), expected, atol=1e-5)


def test_scores_beside_the_embedding(model_file: Path, clips: list[np.ndarray]) -> None:
    embedding, scores = by_hand(model_file, clips[1])
    for output, expected in (("scores", scores), ("both", np.hstack([embedding, scores]))):
        settings = YamnetEncoderConfig(module="yamnet", weights=str(model_file), output=output)
        encoder = build_sound_encoder(settings, None)
        values, _ = encoder(*padded(clips[1:2]))
        assert encoder.width == expected.shape[1]
        np.testing.assert_allclose(values[0].numpy(), expected, atol=1e-5)


def test_masks_and_broken_files_are_refused(model_file: Path, tmp_path: Path) -> None:
    encoder = build_sound_encoder(
        YamnetEncoderConfig(module="yamnet", weights=str(model_file)), None
    )
    with pytest.raises(EarwitnessError, match="views"):
        masks = Masks(SpecAugmentConfig(), torch.tensor([1]))
        encoder(torch.zeros(1, 16000), torch.tensor([16000]), masks)
    broken = tmp_path / "yamnet.tflite"
    broken.write_bytes(b"not a model")
    for weights in (str(broken), "hub", str(tmp_path / "nowhere.tflite")):
        with pytest.raises(EarwitnessError) as raised:
            build_sound_encoder(YamnetEncoderConfig(module="yamnet", weights=weights), None)
        assert "\n" not in str(raised.value)

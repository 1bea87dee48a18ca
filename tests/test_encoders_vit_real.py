"""``vit`` against onnxruntime on a real model, CED-tiny, and real recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from torch import Tensor
from vit_checkpoints import State, save_hub

from pipeline.config.encoders import VitEncoderConfig
from pipeline.encoders.registry import build_sound_encoder
from pipeline.encoders.vit import VitEncoder
from pipeline.encoders.vit_front_ends import XiaomiMel


def dequantised(graph: Any) -> dict[str, np.ndarray]:
    """The initialisers of an ONNX graph, those of int8 as the numbers that they stand for."""
    from onnx import numpy_helper

    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            number, scale, zero = (values[name].astype(np.float32) for name in node.input)
            values[node.output[0]] = (number - zero) * scale
    return values


def ced_tiny(graph: Any, values: dict[str, np.ndarray]) -> State:
    """The tensors of mispeech/ced-tiny, by its names; linear layers are known by their biases."""
    state = {"encoder.freq_pos_embed": values["alias_dq"]}
    for name, array in values.items():
        if name.startswith("model.") and not name.endswith(("_q", "_s", "_z")):
            state[name.removeprefix("model.").removesuffix("_dq")] = array
    product = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        biases = [n for n in node.input if n.startswith("model.encoder.blocks.")]
        made_by = [product[name] for name in node.input if name in product]
        if node.op_type == "Add" and biases and made_by:
            name = biases[0].removeprefix("model.").removesuffix("_dq")
            state[name.removesuffix("bias") + "weight"] = values[made_by[0].input[1]].T
    return {name: torch.from_numpy(np.array(array)) for name, array in state.items()}


def recordings(folder: Path) -> list[Tensor]:
    """Real sound at 16 kHz, of three lengths."""
    found = []
    for number, path in enumerate(sorted(folder.glob("*.ogg"))[:6]):
        samples, rate = soundfile.read(path, dtype="float32")
        resampled = soxr.resample(samples, rate, 16000)[: 80000 - 17777 * (number % 3)]
        found.append(torch.from_numpy(resampled))
    return found


def test_the_real_ced_tiny_names_real_recordings(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its int8 weights, window and filters are all that the graph rounds, when onnxruntime does not
    fuse (its own fused kernels also round activations, by up to 0.004 of a probability).
    """
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = shared_data / "weights" / "ced-tiny.onnx"
    graph = onnx.load(path).graph
    values = dequantised(graph)
    saved = save_hub(tmp_path / "ced-tiny", ced_tiny(graph, values))
    settings = VitEncoderConfig(module="vit", weights=str(saved), output="probabilities")
    tagger = build_sound_encoder(settings)
    assert isinstance(tagger, VitEncoder) and isinstance(tagger.mel, XiaomiMel)
    assert (tagger.sizes.heads, tagger.sizes.depth, tagger.width) == (3, 12, 527)

    # the published front end is the graph's, before it was rounded to int8
    for name, ours in (
        ("mel_transform.mel_scale.fb", tagger.mel.logmel.filters),
        ("val_45", tagger.mel.logmel.window),
    ):
        numbers, step = values[f"{name}_q"].astype(np.float32), values[f"{name}_s"]
        assert np.abs(ours.numpy() / step - numbers).max() < 0.501
        ours.copy_(torch.from_numpy(values[f"{name}_dq"]))
    monkeypatch.setattr("pipeline.encoders.vit_front_ends.TOP_DB", 1e9)  # the graph has none

    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(path), options)
    real = recordings(shared_data / "realsounds" / "evaluation")
    expected = [session.run(["logits"], {"waveform": one.numpy()[None]})[0] for one in real]
    lengths = torch.tensor([len(one) for one in real])
    waveform = torch.nn.utils.rnn.pad_sequence(real, batch_first=True, padding_value=0.9)
    with torch.inference_mode():
        found = tagger(waveform, lengths).values[:, 0]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-4, rtol=0)
    assert found.max() > 0.5

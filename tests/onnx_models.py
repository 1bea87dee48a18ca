"""Small ONNX models for tests, as an exporter writes them, and the same in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PATCH, HOP, BANDS, WIDTH, CLASSES = 400, 160, 3, 5, 4


def weights() -> dict[str, NDArray[np.float32]]:
    draw = np.random.default_rng(0)
    return {
        "kernel": draw.normal(0, 0.3, (BANDS * WIDTH, 1, PATCH)).astype(np.float32),
        "head": draw.normal(0, 1, (WIDTH, CLASSES)).astype(np.float32),
    }


def by_hand(clip: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """What :func:`tagger` makes of (N,) samples."""
    made = weights()
    starts = range(0, len(clip) - PATCH + 1, HOP)
    windows = np.stack([clip[start : start + PATCH] for start in starts])
    hidden = np.tanh(windows @ made["kernel"][:, 0].T)  # (T, F D)
    frames = hidden.reshape(len(hidden), BANDS, WIDTH).mean(1)
    pooled = frames.mean(0)
    logits = pooled @ made["head"]
    return {"frames": frames, "pooled": pooled, "logits": logits, "maps": hidden}


def tagger(
    path: Path,
    *,
    shape: Sequence[str | int] = ("batch", "samples"),
    outputs: Sequence[str] = ("logits",),
    louder: bool = False,
    external: str = "",
) -> None:
    """A convolution over the waveform, whose tokens (frequency × T + time) are averaged; a head.

    Args:
        shape: of the input.
        outputs: of the graph; other tensors are inner ones: ``maps`` (B, F D, T), ``tokens``
            (B, F T, D), ``pooled`` (B, D), ``logits`` (B, C).
        louder: the batch is scaled by its loudest clip, as some log-mels are.
        external: the file beside ``path`` that has the weights.
    """
    made = weights()
    shapes = {
        "channel": [1 if len(shape) == 1 else 0, 1, -1],
        "bands": [0, BANDS, WIDTH, -1],
        "tokens_shape": [0, -1, WIDTH],
    }
    sound, nodes = "waveform", []
    if louder:
        nodes += [
            helper.make_node("Abs", ["waveform"], ["size"]),
            helper.make_node("ReduceMax", ["size"], ["peak"], keepdims=0),
            helper.make_node("Div", ["waveform", "peak"], ["scaled"]),
        ]
        sound = "scaled"
    nodes.append(helper.make_node("Reshape", [sound, "channel"], ["mono"]))
    nodes += [
        helper.make_node("Conv", ["mono", "kernel"], ["convolved"], strides=[HOP]),
        helper.make_node("Tanh", ["convolved"], ["maps"]),
        helper.make_node("Reshape", ["maps", "bands"], ["split"]),  # (B, F, D, T)
        helper.make_node("Transpose", ["split"], ["turned"], perm=[0, 1, 3, 2]),
        helper.make_node("Reshape", ["turned", "tokens_shape"], ["tokens"]),
        helper.make_node("ReduceMean", ["turned"], ["pooled"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["pooled", "head"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in made.items()]
    constants += [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in shapes.items()]
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )
    save(graph, path, external)


def save(graph: Any, path: Path, external: str = "") -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if external:
        onnx.save_model(
            model, path, save_as_external_data=True, location=external, size_threshold=1024
        )
    else:
        onnx.save_model(model, path)

"""An ONNX model as a function from waveforms to one of its tensors, inner ones included."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.encoders.sources import Hub
from pipeline.errors import EarwitnessError, one_line
from pipeline.files import check_file, leads_inside
from pipeline.threads import share

HINT = "give an .onnx file"
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
NEAR = 5  # inner tensors that are named where one is not in the graph
SILENT = 4  # onnxruntime says fatal errors alone; the others are raised too


class Graph:
    """One tensor of a model, computed from a waveform.

    Args:
        path: of the .onnx file.
        waveform: the tensor that takes sound; None: the only input.
        tensor: the one that is wanted, an output or an inner one; None: the only output.
        setting: which setting names it, for errors.
        cuda: compute on the GPU; see :func:`has_cuda`.

    Raises:
        EarwitnessError: not a model that onnxruntime can run; no such tensor; or no waveform.
    """

    def __init__(
        self, path: Path, waveform: str | None, tensor: str | None, setting: str, cuda: bool = False
    ) -> None:
        import onnx

        self.path = path
        model = _read(path)
        self.input = _input(path, model.graph, waveform)
        self.tensor = _tensor(path, model.graph, tensor, setting)
        output = [each for each in model.graph.output if each.name == self.tensor]
        del model.graph.output[:]  # what is no output need not be kept
        model.graph.output.extend(output or [onnx.ValueInfoProto(name=self.tensor)])
        with one_line(path, "export it again", "onnxruntime cannot run it"):
            self._session = _session(model, path.parent, cuda)
        (found,) = (each for each in self._session.get_inputs() if each.name == self.input)
        kind = TYPES.get(found.type)
        *clips, samples = found.shape or [None]
        one_channel = len(clips) < 2 or (len(clips) == 2 and not _other_than_one(clips[1]))
        if kind is None or not found.shape or not one_channel:
            shape = ", ".join(map(str, found.shape))
            raise EarwitnessError(
                f"{path}: input {self.input} is {found.type} ({shape}), not a waveform's floats "
                "(N), (B, N) or (B, 1, N); export the model with what makes its spectrogram"
            )
        if clips and _other_than_one(clips[0]):
            raise EarwitnessError(
                f"{path}: takes {clips[0]} clips at a time; export it for any number of them"
            )
        self._axes, self._type = len(found.shape), kind
        self.one_by_one = not clips or clips[0] == 1
        self.samples = samples if isinstance(samples, int) else None  # N, where it is fixed

    def __call__(self, sound: Tensor) -> Tensor:
        """(B, N) float32 waveforms on the CPU → the tensor in float32, whatever its shape is.

        Raises:
            EarwitnessError: the model cannot compute it, or it is not of numbers.
        """
        given = {1: sound[0], 2: sound}.get(self._axes, sound[:, None]).numpy().astype(self._type)
        problem = f"cannot compute {self.tensor} of {sound.shape[1]} samples"
        with one_line(self.path, "a shorter window_seconds may do", problem):
            (values,) = self._session.run([self.tensor], {self.input: given})
            if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
                raise ValueError("it is no tensor of numbers")
        return torch.from_numpy(values.astype(np.float32, copy=False))


def has_cuda() -> bool:
    """Whether the installed onnxruntime can compute on a GPU."""
    import onnxruntime

    return CUDA in onnxruntime.get_available_providers()


def hub(file: str | None) -> Hub:
    """The files that are fetched of a repository: a model, and its tensors beside it."""
    name = file or "model.onnx"
    names = (name, f"{name}[_.]data")
    return Hub(by_hand="an .onnx file", files=(*names, *(f"*/{each}" for each in names)))


def find_model(location: Path, file: str | None) -> Path:
    """The .onnx file at ``location``, which is one or a folder with one.

    Args:
        file: its path below the folder; None: the only one there, or the only ``model.onnx``.

    Raises:
        EarwitnessError: there is none, or there are several.
    """
    if not location.is_dir():
        return location
    found = sorted(location.rglob("*.onnx"))
    names = [str(path.relative_to(location)) for path in found]
    if file is not None:
        if file not in names:
            raise EarwitnessError(f"{location}: has no {file}; it has: {_listed(names)}")
        return location / file
    plain = [path for path in found if path.name == "model.onnx"]
    if len(found) != 1 and len(plain) != 1:
        several = f"several, set file to one: {_listed(names)}" if found else f"none; {HINT}"
        raise EarwitnessError(f"{location}: .onnx files: {several}")
    return found[0] if len(found) == 1 else plain[0]


def outside_files(path: Path) -> list[str]:
    """The files beside a model that hold its tensors, by their names in it."""
    return [each.value for each in _outside(_read(path))]


def check_whole(path: Path) -> None:
    """Refuses a file whose tensors lie in others beside it: their changes would not be seen.

    Raises:
        EarwitnessError: so it is; the folder is to be given.
    """
    if outside := _outside(_read(path)):
        raise EarwitnessError(
            f"{path}: its tensors are in {outside[0].value} beside it; give the folder that holds "
            "both"
        )


def _read(path: Path) -> Any:
    """The model, without the tensors that lie in other files."""
    import onnx

    check_file(path, HINT)
    with one_line(path, HINT, "not an ONNX model"):
        model = onnx.load_model_from_string(path.read_bytes())
        if not model.graph.node:
            raise ValueError("it computes nothing")
    for each in _outside(model):
        if not leads_inside(each.value):
            raise EarwitnessError(f"{path}: its tensors are in {each.value}, outside its folder")
    return model


def _outside(model: Any) -> list[Any]:
    """The entries of the model that name a file beside it, which holds a tensor."""
    return [
        each
        for tensor in model.graph.initializer
        if tensor.data_location == tensor.EXTERNAL
        for each in tensor.external_data
        if each.key == "location"
    ]


def _resolved(model: Any, folder: Path) -> Path:
    """The folder that the model's tensors really lie in; their names in the model become its own.

    In a hub's cache each file is a link, and onnxruntime follows none that leaves the folder.
    """
    entries = _outside(model)
    files = [Path(os.path.realpath(folder / each.value)) for each in entries]
    if not files:
        return folder
    common = Path(os.path.commonpath([file.parent for file in files]))
    for each, file in zip(entries, files, strict=True):
        each.value = str(file.relative_to(common))
    return common


def _input(path: Path, graph: Any, wanted: str | None) -> str:
    filled = {tensor.name for tensor in graph.initializer}
    names = [each.name for each in graph.input if each.name not in filled]
    if wanted is not None and wanted not in names:
        raise EarwitnessError(f"{path}: has no input {wanted}; its inputs: {_listed(names)}")
    if len(names) != 1:
        raise EarwitnessError(
            f"{path}: reads more than a waveform, its inputs: {_listed(names)}; export it with the "
            "waveform alone"
        )
    return names[0]


def _tensor(path: Path, graph: Any, wanted: str | None, setting: str) -> str:
    inputs, outputs = ([each.name for each in side] for side in (graph.input, graph.output))
    if wanted is None:
        if len(outputs) == 1:
            return outputs[0]
        raise EarwitnessError(f"{path}: set {setting} to one of its outputs: {_listed(outputs)}")
    inner = [name for node in graph.node for name in node.output if name]
    if wanted in outputs or wanted in inner:
        return wanted
    near = difflib.get_close_matches(wanted, inner, NEAR)
    raise EarwitnessError(
        f"{path}: has no tensor {wanted} ({setting}); inputs: {_listed(inputs)}; outputs: "
        f"{_listed(outputs)}; inner ones near it: {_listed(near)}"
    )


def _other_than_one(size: int | str | None) -> bool:
    """Of an axis, which has a number, or a name where any number will do."""
    return isinstance(size, int) and size != 1


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _session(model: Any, folder: Path, cuda: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = share(32), 1
    options.log_severity_level = SILENT
    integers = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    for name, value in {
        # idle threads sleep, so that two jobs on one machine do not stop each other
        "session.intra_op.allow_spinning": "0",
        "session.model_external_initializers_file_folder_path": str(_resolved(model, folder)),
        # a model of which only the weights are int8 is computed as it is written, in floats:
        # onnxruntime rounds its activations too, which is no faster, and by which a clip's values
        # depend on its batch in the second digit (tried with CED-tiny)
        "session.disable_quant_qdq": "0" if integers else "1",
        "session.qdq_matmulnbits_accuracy_level": "1",
    }.items():
        options.add_session_config_entry(name, value)
    providers = [CUDA, CPU] if cuda else [CPU]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)

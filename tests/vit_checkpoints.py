"""CED, Dasheng, EAT and M2D, small and random: their published tensors, and what these compute.

Each is written down once more here, clip by clip in float64: the front ends from their definitions
(of torchaudio and Kaldi in NumPy and transformers, of nnAudio in librosa), the blocks as torch's
own ``TransformerEncoderLayer``.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import ASTFeatureExtractor

WIDTH, DEPTH, HEADS, HIDDEN, CLASSES = 32, 2, 4, 80, 7
State = dict[str, Tensor]
M2D_FOLDER = "m2d_vit_base-80x208p16x16-240101-mr7"


class Maker:
    """Random tensors, always the same."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=self.generator)

    def linear(self, name: str, after: int, *before: int) -> State:
        scale = float(np.prod(before)) ** -0.5
        weight = self.normal(after, *before, scale=1.5 * scale)
        return {f"{name}.weight": weight, f"{name}.bias": self.normal(after, scale=0.2)}

    def norm(self, name: str, width: int) -> State:
        weight = 1 + self.normal(width, scale=0.3)
        return {f"{name}.weight": weight, f"{name}.bias": self.normal(width, scale=0.3)}

    def blocks(self, width: int = WIDTH, depth: int = DEPTH) -> State:
        state: State = {}
        for index in range(depth):
            block = f"blocks.{index}"
            state |= self.norm(f"{block}.norm1", width) | self.norm(f"{block}.norm2", width)
            state |= self.linear(f"{block}.attn.qkv", 3 * width, width)
            state |= self.linear(f"{block}.attn.proj", width, width)
            state |= self.linear(f"{block}.mlp.fc1", HIDDEN, width)
            state |= self.linear(f"{block}.mlp.fc2", width, HIDDEN)
        return state

    def batch_norm(self, name: str, width: int, mean: float, variance: float) -> State:
        return self.norm(name, width) | {
            f"{name}.running_mean": mean + self.normal(width),
            f"{name}.running_var": variance * (1 + self.normal(width).abs()),
            f"{name}.num_batches_tracked": torch.tensor(9),
        }


def xiaomi(patch: tuple[int, int], columns: int, width: int = WIDTH, depth: int = DEPTH) -> State:
    """CED (16 × 16, 63 columns) or Dasheng (64 × 4, 252), by the names of the hub's code."""
    make = Maker(columns)
    state = make.batch_norm("encoder.init_bn", 64, -30, 100)
    body = make.linear("patch_embed.proj", width, 1, *patch)
    body["time_pos_embed"] = make.normal(1, width, 1, columns)
    body["freq_pos_embed"] = make.normal(1, width, 64 // patch[0], 1)
    body |= make.blocks(width, depth) | make.norm("norm", width)
    state |= {f"encoder.{name}": tensor for name, tensor in body.items()}
    return state | make.norm("outputlayer.0", width) | make.linear("outputlayer.1", CLASSES, width)


def ced() -> State:
    return xiaomi((16, 16), 63)


def dasheng() -> State:
    """The hub's has no classifier."""
    state = xiaomi((64, 4), 252)
    return {name: tensor for name, tensor in state.items() if "outputlayer" not in name}


def eat(columns: int = 768) -> State:
    """By the names of the hub's code, whose positions go to 768 columns."""
    make = Maker(2)
    body = make.linear("local_encoder.proj", WIDTH, 1, 16, 16)
    body["extra_tokens"] = make.normal(1, 1, WIDTH)
    body["fixed_positional_encoder.positions"] = make.normal(1, columns * 8, WIDTH)
    body |= make.norm("pre_norm", WIDTH) | make.blocks()
    body |= make.norm("fc_norm", WIDTH) | make.linear("head", CLASSES, WIDTH)
    return {f"model.{name}": tensor for name, tensor in body.items()}


def fairseq_eat() -> State:
    """The names of a fine-tuned model of EAT's own code, and its 64 columns."""
    state = {}
    for name, tensor in eat(64).items():
        name = name.removeprefix("model.")
        inner = "model.modality_encoders.IMAGE."
        if name.startswith("pre_norm."):
            name = f"{inner}context_encoder.norm.{name.removeprefix('pre_norm.')}"
        elif name.startswith(("local_encoder", "extra_tokens", "fixed_positional_encoder")):
            name = f"{inner}{name}"
        elif name.startswith("blocks."):
            name = f"model.{name}"
        state[name] = tensor
    return state


def m2d(joined: bool = False) -> State:
    """A fine-tuned M2D of 80 × 208 frames; ``joined``: its classifier reads 5 × D."""
    make = Maker(3)
    body = make.linear("patch_embed.proj", WIDTH, 1, 16, 16)
    body["cls_token"] = make.normal(1, 1, WIDTH)
    body["pos_embed"] = make.normal(1, 1 + 5 * 13, WIDTH)
    body["norm_stats"] = torch.tensor([-6.3, 3.7])
    body |= make.blocks() | make.norm("norm", WIDTH)
    state = {f"module.ar.runtime.backbone.{name}": tensor for name, tensor in body.items()}
    state["module.ar.runtime.to_spec.mel_basis"] = make.normal(80, 201)
    inputs = 5 * WIDTH if joined else WIDTH
    norm = make.batch_norm("module.head.norm", inputs, 0.5, 2)
    state |= {name: tensor for name, tensor in norm.items() if "running" in name}
    return state | make.linear("module.head.mlp.mlp.0", CLASSES, inputs)


def plain(state: State, *prefixes: str) -> State:
    """Without the first of these prefixes that a name has."""
    out = {}
    for name, tensor in state.items():
        first = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        out[name.removeprefix(first)] = tensor
    return out


def save_hub(folder: Path, state: State) -> Path:
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()},
              folder / "model.safetensors")  # fmt: skip
    return folder


def save_torch(path: Path, state: State, **others: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": state, **others}, path)
    return path


def original_ced(state: State) -> State:
    """By the names of CED's and Dasheng's own code, with their front end's buffers."""
    body = plain(state, "encoder.")
    named = {name.replace("init_bn.", "init_bn.1."): tensor for name, tensor in body.items()}
    return named | {"front_end.0.mel_scale.fb": torch.ones(257, 64)}


PLAIN_ARGS = Namespace(lr=0.1, data_path="data")


def htk_decibels(waveform: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S,) → (64, T): torchaudio's MelSpectrogram and AmplitudeToDB(top_db=120)."""
    padded = np.pad(waveform, 256, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    count = len(waveform) // 160 + 1
    spectra = [np.fft.rfft(window * padded[160 * t : 160 * t + 512]) for t in range(count)]
    power = np.abs(np.array(spectra)).T ** 2  # (257, T)
    top = 2595 * np.log10(1 + 8000 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, 66) / 2595) - 1)
    bins = np.linspace(0, 8000, 257)
    mel = np.empty((64, count))
    for band, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        slope = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle))
        mel[band] = np.maximum(0, slope) @ power
    decibels = 10 * np.log10(np.maximum(mel, 1e-10))
    return np.maximum(decibels, decibels.max() - 120)


def layer(state: State, index: int, pre_norm: bool) -> nn.Module:
    """One block, as torch has it."""
    made = nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, 0.0, "gelu", 1e-6, True, pre_norm, dtype=torch.float64
    )
    names = {
        "self_attn.in_proj_weight": "attn.qkv.weight", "self_attn.in_proj_bias": "attn.qkv.bias",
        "self_attn.out_proj.weight": "attn.proj.weight", "linear1.weight": "mlp.fc1.weight",
        "self_attn.out_proj.bias": "attn.proj.bias", "linear1.bias": "mlp.fc1.bias",
        "linear2.weight": "mlp.fc2.weight", "linear2.bias": "mlp.fc2.bias",
        "norm1.weight": "norm1.weight", "norm1.bias": "norm1.bias",
        "norm2.weight": "norm2.weight", "norm2.bias": "norm2.bias",
    }  # fmt: skip
    made.load_state_dict({ours: state[f"blocks.{index}.{name}"] for ours, name in names.items()})
    return made.eval()


def through_blocks(state: State, x: Tensor, pre_norm: bool = True) -> Tensor:
    for index in range(DEPTH):
        x = layer(state, index, pre_norm)(x)
    return x


def normed(state: State, name: str, x: Tensor, epsilon: float = 1e-6) -> Tensor:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return nn.functional.layer_norm(x, x.shape[-1:], weight, bias, epsilon)


def mapped(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


class Outputs(dict[str, Tensor]):
    """``frames`` (T, D), ``embedding`` (D,), ``probabilities`` (C,) of one clip."""


@torch.no_grad()
def xiaomi_outputs(given: State, waveform: NDArray[np.float64]) -> Outputs:
    """CED's and Dasheng's code on one clip."""
    state = {name: tensor.double() for name, tensor in plain(given, "encoder.").items()}
    x = torch.from_numpy(htk_decibels(waveform))[None, None].transpose(1, 2)
    x = nn.functional.batch_norm(
        x, *(state[f"init_bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    ).transpose(1, 2)  # (1, 1, 64, T)
    weight = state["patch_embed.proj.weight"]
    x = nn.functional.conv2d(x, weight, state["patch_embed.proj.bias"], stride=weight.shape[2:])
    rows, columns = x.shape[2:]
    x = x + state["time_pos_embed"][:, :, :, :columns] + state["freq_pos_embed"]
    x = normed(state, "norm", through_blocks(state, x.flatten(2).transpose(1, 2)))[0]
    made = Outputs(frames=x.view(rows, columns, -1).mean(0), embedding=x.mean(0))
    if "outputlayer.0.weight" in state:
        pooled = normed(state, "outputlayer.0", x.mean(0), 1e-5)
        made["probabilities"] = mapped(state, "outputlayer.1", pooled).sigmoid()
    return made


@torch.no_grad()
def eat_outputs(given: State, waveform: NDArray[np.float64]) -> Outputs:
    """EAT's code on one clip, its tokens in the order of time × frequency."""
    state = {name: tensor.double() for name, tensor in plain(given, "model.").items()}
    extractor = ASTFeatureExtractor(mean=-4.268, std=4.569)  # also pads with zeros to 1024
    values = extractor(waveform, sampling_rate=16000, return_tensors="pt").input_values
    weight = state["local_encoder.proj.weight"]
    x = nn.functional.conv2d(
        values.double()[:, None], weight, state["local_encoder.proj.bias"], stride=16
    )
    x = x.flatten(2).transpose(1, 2)
    x = x + state["fixed_positional_encoder.positions"][:, : x.shape[1]]
    x = normed(state, "pre_norm", torch.cat([state["extra_tokens"], x], 1))
    x = through_blocks(state, x, pre_norm=False)[0]
    sounding = -(((len(waveform) - 400) // 160 + 1) // -16)  # columns with sound
    logits = mapped(state, "head", normed(state, "fc_norm", x[0], 1e-5))
    frames = x[1:].view(64, 8, -1).mean(1)[:sounding]
    return Outputs(frames=frames, embedding=x[0], probabilities=logits.sigmoid())


@torch.no_grad()
def m2d_outputs(given: State, waveform: NDArray[np.float64]) -> Outputs:
    """M2D's portable code on one clip no longer than its input."""
    names = plain(given, "module.ar.runtime.backbone.", "module.")
    state = {name: tensor.double() for name, tensor in names.items()}
    power = librosa.feature.melspectrogram(
        y=waveform, sr=16000, n_fft=400, hop_length=160, n_mels=80, fmin=50, fmax=8000,
        pad_mode="reflect",
    )  # fmt: skip
    mean, std = state["norm_stats"]
    x = (torch.from_numpy(power + np.finfo(np.float32).eps).log()[None, None] - mean) / std
    x = nn.functional.pad(x, (0, -x.shape[3] % 16))
    x = nn.functional.conv2d(
        x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16
    )
    columns = x.shape[3]
    grid = state["pos_embed"][:, 1:].view(1, 5, 13, -1)[:, :, :columns].flatten(1, 2)
    first = state["cls_token"] + state["pos_embed"][:, :1]
    x = torch.cat([first, x.flatten(2).transpose(1, 2) + grid], 1)
    x = normed(state, "norm", through_blocks(state, x))[0, 1:].view(5, columns, -1)
    pooled = x.mean(1).flatten() if len(state["head.norm.running_var"]) > WIDTH else x.mean((0, 1))
    scale = (state["head.norm.running_var"] + 1e-5).sqrt()
    logits = mapped(state, "head.mlp.mlp.0", (pooled - state["head.norm.running_mean"]) / scale)
    return Outputs(frames=x.mean(0), embedding=x.mean((0, 1)), probabilities=logits.sigmoid())

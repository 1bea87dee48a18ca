"""The checkpoints of CED, Dasheng, EAT and M2D as the tensors of one plain vision transformer.

Sources:

- CED: RicherMans/CED models/audiotransformer.py (.pt, ``init_bn.1.``), and the hub's
  jimbozhang/hf_transformers_custom_model_ced ced_model/modeling_ced.py (``init_bn.``);
- Dasheng: XiaoMi/dasheng dasheng/train/models.py (.pt), and the hub's
  jimbozhang/hf_transformers_custom_model_dasheng dasheng_model/modeling_dasheng.py;
- EAT: cwx-worst-one/EAT models/{base,images,modules,EAT_audio_classification}.py (fairseq's .pt),
  and eat_model.py of the hub's worstchan/EAT-*, whose names fairseq's are turned into here;
- M2D: nttcslab/m2d examples/portable_m2d.py, for the encoder alone and for the fine-tuned.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.encoders.vit_network import VitSizes
from pipeline.encoders.vit_tensors import Model, Tensors
from pipeline.errors import EarwitnessError
from pipeline.files import read_json

BATCH_NORM_EPSILON = 1e-5  # torch's
# a head has 64 channels, as in the ViTs, but for the width 1280 of Dasheng-0.6B
HEAD_WIDTH, HEADS = 64, {1280: 16}
HOPS = 100  # log-mel frames a second, of all four
# EAT, of Kaldi's filter bank (cwx-worst-one/EAT feature_extract/feature_extract.py)
EAT_MEAN, EAT_STD, EAT_FRAMES = -4.268, 4.569, 1024
# M2D, where a checkpoint has no norm_stats: its models of 2022
M2D_STATS = (-7.1, 4.2)
M2D_NAME = re.compile(r"-(\d+)x(\d+)p(\d+)x(\d+)(?:p(\d+)k)?")  # sizes, patch, and rate in kHz
M2D_RATES = (16000, 32000)


class Published(NamedTuple):
    """A checkpoint, in this house's names."""

    sizes: VitSizes
    state: dict[str, Tensor]  # of ``Vit``
    scale: Tensor  # (M,) of the log-mel's normalisation: × scale + shift
    shift: Tensor  # (M,)
    sample_rate: int
    seconds: float  # of the longest input
    head: dict[str, Tensor]  # of ``VitHead``; empty without


def read_checkpoint(model: Model, location: Path, heads: int | None, head: bool) -> Published:
    """The tensors of a file, or of a folder of the hub.

    Args:
        heads: of attention; None: as of the published models.
        head: the classifier is needed.

    Raises:
        EarwitnessError: they are another model's, do not fit each other, or have no head.
    """
    tensors = Tensors(model, location)
    match model:
        case "ced":
            published = _xiaomi(tensors, (16, 16), 1012, heads, head)
        case "dasheng":
            published = _xiaomi(tensors, (64, 4), 1008, heads, head)
        case "eat":
            published = _eat(tensors, heads, head)
        case "m2d":
            published = _m2d(tensors, heads, head)
    tensors.finish()
    return published


def _xiaomi(
    tensors: Tensors, patch: tuple[int, int], frames: int, heads: int | None, head: bool
) -> Published:
    """CED and Dasheng: a batch norm over the bands, positions in time and in frequency.

    ``frames``: of the published models' longest log-mel, their ``target_length``.
    """
    mels = 64
    _check_extractor(tensors.source)
    norm = {
        part: tensors.take(f"init_bn.{part}", mels)
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    scale = norm["weight"] * (norm["running_var"] + BATCH_NORM_EPSILON).rsqrt()
    shift = norm["bias"] - norm["running_mean"] * scale
    patches = tensors.both("patch_embed.proj", None, 1, *patch)
    width = len(patches["weight"])
    in_time = tensors.take("time_pos_embed", 1, width, 1, None)
    in_frequency = tensors.take("freq_pos_embed", 1, width, mels // patch[0], 1)
    positions = (in_time + in_frequency)[0].permute(1, 2, 0)  # (F, T, D)
    sizes, state = _network(tensors, mels, patches, positions, heads)
    classifier = {}
    if head:
        _check_head(tensors, "outputlayer.1.weight")
        classifier = _prefixed("norm.", tensors.both("outputlayer.0", width))
        classifier |= _prefixed("linear.", tensors.both("outputlayer.1", None, width))
    if sizes.columns != frames // patch[1]:  # another longest input, a fine-tuned model's
        frames = sizes.columns * patch[1]
    return Published(sizes, state, scale, shift, 16000, frames / HOPS, classifier)


def _eat(tensors: Tensors, heads: int | None, head: bool) -> Published:
    """EAT: a picture of time × frequency, fixed positions, a class token, norms behind."""
    mels, side = 128, 16
    patches = tensors.both("local_encoder.proj", None, 1, side, side)
    patches["weight"] = patches["weight"].transpose(2, 3)  # to frequency × time
    width = len(patches["weight"])
    positions = tensors.take("fixed_positional_encoder.positions", 1, None, width)[0]
    if len(positions) == 0 or len(positions) % (mels // side):
        raise tensors.unfit(f"{len(positions)} positions are not whole columns of {mels // side}")
    positions = positions.unflatten(0, (-1, mels // side)).transpose(0, 1)
    positions = positions[:, : EAT_FRAMES // side]
    sizes, state = _network(tensors, mels, patches, positions, heads, post_norm=True)
    state["cls_token"] = tensors.take("extra_tokens", 1, 1, width)[0, 0]
    state |= _prefixed("pre_norm.", tensors.both("pre_norm", width))
    classifier = {}
    if head:
        _check_head(tensors, "head.weight")
        classifier = _prefixed("norm.", tensors.both("fc_norm", width))
        classifier |= _prefixed("linear.", tensors.both("head", None, width))
    scale = torch.full((mels,), 1 / (2 * EAT_STD))
    seconds = sizes.columns * side / HOPS
    return Published(sizes, state, scale, -EAT_MEAN * scale, 16000, seconds, classifier)


def _m2d(tensors: Tensors, heads: int | None, head: bool) -> Published:
    """M2D: learned or fixed positions of the longest input, a class token."""
    mels, frames, patch, rate = _m2d_sizes(tensors.source)
    patches = tensors.both("patch_embed.proj", None, 1, *patch)
    width, rows, columns = len(patches["weight"]), mels // patch[0], frames // patch[1]
    positions = tensors.take("pos_embed", 1, 1 + rows * columns, width)[0]
    grid = positions[1:].unflatten(0, (rows, columns))
    sizes, state = _network(tensors, mels, patches, grid, heads, class_token=True)
    state["cls_token"] = tensors.take("cls_token", 1, 1, width)[0, 0] + positions[0]
    stats = torch.tensor(M2D_STATS)
    if "norm_stats" in tensors.left:
        stats = tensors.take("norm_stats", 2)
    scale = (1 / stats[1]).expand(mels)
    classifier = _m2d_head(tensors, width, rows) if head else {}
    return Published(sizes, state, scale, -stats[0] * scale, rate, frames / HOPS, classifier)


def _m2d_head(tensors: Tensors, width: int, rows: int) -> dict[str, Tensor]:
    """EVAR's: batch norm without weights, which becomes part of the linear layer.

    It reads a mean of all tokens, or the means of each row of patches, joined.
    """
    name = "head.mlp.mlp.0"
    _check_head(tensors, f"{name}.weight")
    given = tensors.left[f"{name}.weight"].shape[-1:]
    inputs = width if given == (width,) else rows * width
    linear = tensors.both(name, None, inputs)
    mean = tensors.take("head.norm.running_mean", inputs)
    scale = (tensors.take("head.norm.running_var", inputs) + BATCH_NORM_EPSILON).rsqrt()
    weight = linear["weight"] * scale
    return _prefixed("linear.", {"weight": weight, "bias": linear["bias"] - weight @ mean})


def _m2d_sizes(source: Path) -> tuple[int, int, tuple[int, int], int]:
    """Bands, log-mel frames, patch and rate, which M2D's folders are named by."""
    found = M2D_NAME.search(f"{source.absolute().parent.name}/{source.name}")
    if found is None:
        raise EarwitnessError(
            f"{source}: m2d needs the folder's published name, which has its sizes and its rate,"
            " such as m2d_vit_base-80x608p16x16-220930-mr7; rename it"
        )
    mels, frames, high, wide, kilohertz = (int(part or 16) for part in found.groups())
    rate = 1000 * kilohertz
    if rate not in M2D_RATES or mels != 80 or not (0 < high <= mels and 0 < wide <= frames):
        raise EarwitnessError(
            f"{source}: {found[0][1:]} is no size of m2d, which has 80 bands at 16 or 32 kHz"
        )
    return mels, frames, (high, wide), rate


def _network(
    tensors: Tensors,
    mels: int,
    patches: dict[str, Tensor],
    positions: Tensor,
    heads: int | None,
    *,
    class_token: bool = False,
    post_norm: bool = False,
) -> tuple[VitSizes, dict[str, Tensor]]:
    """Sizes and tensors of what all four have; ``positions``: (F, T, D)."""
    width, columns = len(patches["weight"]), positions.shape[1]
    if columns == 0:
        raise tensors.unfit("it has no positions in time")
    numbers = [re.match(r"blocks\.(\d{1,4})\.", name) for name in tensors.left]
    depth = 1 + max((int(found[1]) for found in numbers if found), default=0)
    state = _prefixed("patch_embed.", patches) | {"positions": positions}
    hidden = 0
    for index in range(depth):
        block = f"blocks.{index}"
        parts = {part: tensors.both(f"{block}.{part}", width) for part in ("norm1", "norm2")}
        parts["attn.qkv"] = tensors.both(f"{block}.attn.qkv", 3 * width, width)
        parts["attn.proj"] = tensors.both(f"{block}.attn.proj", width, width)
        parts["mlp.fc1"] = tensors.both(f"{block}.mlp.fc1", hidden or None, width)
        hidden = len(parts["mlp.fc1"]["weight"])
        parts["mlp.fc2"] = tensors.both(f"{block}.mlp.fc2", width, hidden)
        for part, pair in parts.items():
            state |= _prefixed(f"{block}.{part}.", pair)
    if not post_norm:
        state |= _prefixed("norm.", tensors.both("norm", width))
    count = _heads(tensors, width, heads)
    shape = patches["weight"].shape
    token = class_token or post_norm
    sizes = VitSizes(
        mels, (shape[2], shape[3]), columns, width, depth, hidden, count, token, post_norm
    )
    return sizes, state


def _heads(tensors: Tensors, width: int, heads: int | None) -> int:
    published = HEADS.get(width, width // HEAD_WIDTH if width % HEAD_WIDTH == 0 else 0)
    count = heads or published
    if count and width and width % count == 0:
        return count
    problem = f"{heads} heads do not divide the width {width}"
    if heads is None:
        problem = f"no published model is {width} wide"
    raise EarwitnessError(f"{tensors.source}: {problem}; set heads to the model's own")


def _check_head(tensors: Tensors, name: str) -> None:
    if name not in tensors.left:
        raise EarwitnessError(
            f"{tensors.source}: has no classifier ({name} is missing), so no probabilities; set"
            " output to frames or embedding, or give a fine-tuned model"
        )


def _check_extractor(location: Path) -> None:
    """Refuses a hub's folder whose feature extractor is not that of the published models."""
    path = location / "preprocessor_config.json"
    if not path.is_file():
        return
    saved: Any = read_json(path, "get the weights again")
    wanted = {"sampling_rate": 16000, "n_fft": 512, "win_size": 512, "hop_size": 160}
    wanted |= {"feature_size": 64, "f_min": 0, "f_max": 8000, "center": True}
    for name, value in wanted.items() if isinstance(saved, dict) else ():
        if saved.get(name) not in (None, value):  # f_max null is half of the rate
            raise EarwitnessError(
                f"{path}: {name} is {saved[name]}, the published models' {value}; vit has no other"
            )


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}

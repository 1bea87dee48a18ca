"""HTSAT's tensors as its authors and LAION publish them: their names, and the sizes they show.

Names: RetroCirce/HTS-Audio-Transformer, model/htsat.py (the same in LAION-AI/CLAP,
clap_module/htsat.py, and in XinhaoMei/WavCaps); transformers' ClapAudioModel has others.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from transformers import ClapAudioConfig

from pipeline.errors import EarwitnessError, one_line

SPEC = 256  # HTSAT folds time into a square of this side
FRONT = ("spectrogram_extractor.", "logmel_extractor.")  # begin the names of its front end
HEADS = ("tscam_conv.", "head.")  # and of its classifier
FUSION = ("patch_embed.fusion_model.", "patch_embed.mel_conv2d.")  # of LAION's fused ones
PATCHES = "patch_embed.proj.weight"  # every HTSAT has it
NETWORK = ("bn0.", "patch_embed.", "layers.", "norm.")  # begin the network's names
NAMES = {  # HTSAT's names → transformers'
    "bn0.": "batch_norm.",
    "norm1.": "layernorm_before.",
    "norm2.": "layernorm_after.",
    "attn.proj.": "attention.output.dense.",
    "attn.": "attention.self.",
    "mlp.fc1.": "intermediate.dense.",
    "mlp.fc2.": "output.dense.",
}


class HtsatSizes(NamedTuple):
    """What the tensors determine; the names are those of the encoder's settings."""

    embed_dim: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int


def htsat_names(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """HTSAT's tensors under transformers' names behind ``prefix``, the others unchanged."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        new = prefix + _renamed(name)
        if not name.startswith(NETWORK):
            named[name] = tensor
        elif ".qkv." in new:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                named[new.replace("qkv", part)] = piece
        elif not name.endswith(".attn_mask"):  # determined by the square's size
            named[new] = tensor
    return named


def _renamed(name: str) -> str:
    for theirs, ours in NAMES.items():
        if f".{theirs}" in f".{name}":
            return name.replace(theirs, ours)
    return name


def htsat_sizes(state: Mapping[str, Tensor], prefix: str, source: Path) -> HtsatSizes:
    """The sizes of the HTSAT whose tensors have transformers' names behind ``prefix``.

    Raises:
        EarwitnessError: there is none in the file.
    """
    if f"{prefix}{PATCHES}" not in state:
        raise EarwitnessError(
            f"{source}: holds no HTSAT ({prefix}{PATCHES} is missing); give a CLAP's folder,"
            " LAION's .pt with HTSAT, or HTS-AT's .ckpt"
        )
    stages = range(_count(state, f"{prefix}layers."))
    bias = "blocks.0.attention.self.relative_position_bias_table"  # ((2 × window − 1)², heads)
    with one_line(source, "get the file again", "holds no whole HTSAT"):
        tables = [state[f"{prefix}layers.{stage}.{bias}"].shape for stage in stages]
        return HtsatSizes(
            embed_dim=len(state[f"{prefix}{PATCHES}"]),
            depths=tuple(_count(state, f"{prefix}layers.{stage}.blocks.") for stage in stages),
            heads=tuple(heads for _, heads in tables),
            window=(isqrt(tables[0][0]) + 1) // 2,
        )


def _count(state: Mapping[str, Tensor], stem: str) -> int:
    """The number of layers whose names begin with ``stem`` and a number."""
    return len({name.removeprefix(stem).split(".")[0] for name in state if name.startswith(stem)})


def htsat_config(sizes: HtsatSizes, mels: int, spec_size: int, **more: Any) -> ClapAudioConfig:
    """transformers' configuration of an HTSAT; ``more``: other fields of it."""
    stages = len(sizes.depths)
    return ClapAudioConfig(
        window_size=sizes.window,
        num_mel_bins=mels,
        spec_size=spec_size,
        patch_size=4,
        patch_stride=[4, 4],
        depths=list(sizes.depths),
        num_attention_heads=list(sizes.heads),
        num_hidden_layers=stages,
        patch_embeds_hidden_size=sizes.embed_dim,
        hidden_size=sizes.embed_dim * 2 ** (stages - 1),
        **more,
    )

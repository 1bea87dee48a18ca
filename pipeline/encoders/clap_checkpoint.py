"""LAION-CLAP's published files under the names of transformers' ClapModel.

``630k-audioset-best.pt`` and its kin (LAION-AI/CLAP, clap_module/model.py and factory.py): a
dictionary with ``state_dict``, whose names begin with ``module.``; HTS-AT's ``.ckpt`` of Lightning
(RetroCirce/HTS-Audio-Transformer, sed_model.py) holds its sound side alone, below ``sed_model.``.
The renaming is that of transformers' convert_clap_original_pytorch_to_hf.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pipeline.encoders import checkpoints
from pipeline.encoders.htsat_checkpoint import FUSION, PATCHES, htsat_names
from pipeline.errors import EarwitnessError

PARALLEL = "module."  # begins the names of what several GPUs trained
SOUND = "audio_branch."
AUDIO = "audio_model.audio_encoder."  # transformers' name of the same
LIGHTNING = "sed_model."
TRAINING = ("audio_transform.", "text_transform.", "logit_scale_")  # layers that no embedding uses
PROJECTION = re.compile(r"^(audio|text)_projection\.([02])\.")  # linear, ReLU, linear
LINEAR = {"0": "linear1", "2": "linear2"}


def laion_state(location: Path, what: str) -> dict[str, Tensor]:
    """The tensors of LAION's file, under the names of a ClapModel.

    Raises:
        EarwitnessError: it holds no whole CLAP; ``what`` is the encoder that asks.
    """
    state = checkpoints.read_state(location)
    if not any(name.removeprefix(PARALLEL).startswith(SOUND) for name in state):
        raise EarwitnessError(
            f"{location}: no CLAP of LAION's; {what} needs its .pt, or a folder written by"
            " save_pretrained"
        )
    return clap_names(state)


def projection_width(state: Mapping[str, Tensor], name: str, source: Path) -> int:
    """D, the width of the shared space.

    Raises:
        EarwitnessError: the projection is missing.
    """
    if f"{name}.linear2.bias" not in state:
        raise EarwitnessError(f"{source}: {name}.linear2.bias is missing; get the file again")
    return state[f"{name}.linear2.bias"].numel()


def clap_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """LAION's or HTS-AT's tensors under the names of a ClapModel; a ClapModel's own unchanged."""
    if all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): tensor for name, tensor in state.items()}
    for prefix in (SOUND, LIGHTNING, ""):
        if f"{prefix}{PATCHES}" in state:
            break
    else:
        return dict(state)
    sound = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    rest = {n: t for n, t in state.items() if not n.startswith(prefix)}
    return htsat_names(sound, AUDIO) | {_renamed(name): tensor for name, tensor in rest.items()}


def _renamed(name: str) -> str:
    name = PROJECTION.sub(lambda found: f"{found[1]}_projection.{LINEAR[found[2]]}.", name)
    return re.sub(r"^text_branch\.", "text_model.", name)


def is_fused(state: Mapping[str, Tensor]) -> bool:
    """Whether the sound side, under any names, was trained with feature fusion.

    Its log-mel is then torchaudio's, with HTK's scale (LAION-AI/CLAP, training/data.py, get_mel).
    """
    return any(part in name for name in state for part in FUSION)

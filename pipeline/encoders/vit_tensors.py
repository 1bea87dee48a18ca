"""The tensors of a checkpoint of CED, Dasheng, EAT or M2D, under the names of the model's code.

Names are those of each model's code, behind whatever a wrapper puts before them: ``encoder.`` of
the hub's CED and Dasheng, ``model.`` of the hub's EAT, ``module.ar.runtime.backbone.`` of a
fine-tuned M2D.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from pipeline.encoders import checkpoints
from pipeline.errors import EarwitnessError
from pipeline.state_dicts import check_numbers

Model = Literal["ced", "dasheng", "eat", "m2d"]

NAMES = (  # in this order
    (r"^(?:(?:module|model|encoder|backbone|ar|runtime)\.)+", ""),
    (r"^modality_encoders\.IMAGE\.", ""),  # fairseq's EAT, this and the next
    (r"^context_encoder\.norm\.", "pre_norm."),
    (r"^init_bn\.1\.", "init_bn."),
)
XIAOMI = ("init_bn.running_mean", "patch_embed.proj.weight", "time_pos_embed", "freq_pos_embed")
KEYS: dict[Model, tuple[str, ...]] = {  # without which a checkpoint is another model's
    "ced": XIAOMI,
    "dasheng": XIAOMI,
    "eat": ("local_encoder.proj.weight", "extra_tokens", "fixed_positional_encoder.positions"),
    "m2d": ("patch_embed.proj.weight", "cls_token", "pos_embed"),
}
UNUSED: dict[Model, tuple[str, ...]] = {  # begin the names of what is no part of the encoder
    "ced": ("front_end.", "outputlayer."),
    "dasheng": ("front_end.", "outputlayer."),
    "eat": ("fc_norm.", "head.", "decoder.", "recon_proj.", "cls_proj.", "shared_decoder."),
    "m2d": ("",),  # M2D's own code leaves out what it does not know
}


class Tensors:
    """A checkpoint's tensors, each taken once, in float32."""

    def __init__(self, model: Model, location: Path) -> None:
        """Raises:
        EarwitnessError: it is another model's checkpoint; what it lacks is named.
        """
        self.model, self.source = model, location
        state = _read(location)
        self.left = checkpoints.renamed(state, NAMES)
        if len(self.left) < len(state):
            raise self.unfit("it holds the encoder twice; save one of them alone")
        if missing := [name for name in KEYS[model] if name not in self.left]:
            has = ", ".join(list(state)[:4])
            raise self.unfit(f"{', '.join(missing)} missing (it has {has} …); correct `model`")

    def unfit(self, what: str) -> EarwitnessError:
        return EarwitnessError(f"{self.source}: not the weights of {self.model}: {what}")

    def take(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of this shape, None for any size.

        Raises:
            EarwitnessError: it is missing, of another shape, or not finite.
        """
        if name not in self.left:
            raise self.unfit(f"{name} is missing")
        tensor = self.left.pop(name)
        sizes = zip(tensor.shape, shape, strict=False)
        if tensor.ndim != len(shape) or any(wanted not in (None, size) for size, wanted in sizes):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise self.unfit(f"{name} is {tuple(tensor.shape)}, the model's is ({wanted})")
        check_numbers(name, tensor, torch.empty(0), str(self.source), "get the file again")
        return tensor.to(torch.float32, copy=True)

    def both(self, name: str, *shape: int | None) -> dict[str, Tensor]:
        """Weight and bias, under these two names."""
        return {
            "weight": self.take(f"{name}.weight", *shape),
            "bias": self.take(f"{name}.bias", shape[0]),
        }

    def finish(self) -> None:
        """Refuses tensors that nobody took, which would change what the encoder computes."""
        for name, tensor in self.left.items():
            known = name.startswith(UNUSED[self.model]) and not name.startswith("blocks.")
            if not known and tensor.is_floating_point():
                raise self.unfit(f"{name} is not part of this model")


def _read(location: Path) -> dict[str, Tensor]:
    """Of a file, or of a folder, whose safetensors may be in several files."""
    shards: Iterable[Path] = location.glob("model-*-of-*.safetensors") if location.is_dir() else ()
    parts = sorted(shards)
    number = parts[0].stem.rpartition("-")[2].lstrip("0") if parts else "0"
    if str(len(parts)) != number:
        raise EarwitnessError(f"{location}: has {len(parts)} of its {number} files; get the others")
    # the training settings beside M2D's tensors: names and plain values
    with torch.serialization.safe_globals([argparse.Namespace]):
        states = [checkpoints.read_state(path) for path in parts or [location]]
    return {name: tensor for state in states for name, tensor in state.items()}

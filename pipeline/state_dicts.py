"""Weights of modules as safetensors files: written whole or not at all, read without a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.errors import EarwitnessError, one_line
from pipeline.files import check_file, replacing

REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, each tied tensor once, under the first of its names."""
    seen: set[int] = set()
    unique = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            unique[name] = tensor.detach()
    return unique


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copies what :func:`weights` gave into a module of the same architecture.

    Raises:
        EarwitnessError: a name or a shape does not match, or a number is not finite.
    """
    expected = weights(module)
    if unmatched := sorted(expected.keys() ^ tensors.keys()):
        first = unmatched[0]
        where = "not in the file" if first in expected else "not in the model"
        raise EarwitnessError(
            f"{source}: weights do not match the model ({first} is {where}, "
            f"{len(unmatched)} in all); train it again, or correct the plan"
        )
    with torch.no_grad():
        for name, tensor in expected.items():
            if tensor.shape != tensors[name].shape:
                raise EarwitnessError(
                    f"{source}: {name} is {tuple(tensors[name].shape)}, "
                    f"the model's {tuple(tensor.shape)}; train it again, or correct the plan"
                )
            check_numbers(name, tensors[name], tensor, source, "train it again")
            tensor.copy_(tensors[name])


def check_numbers(name: str, found: Tensor, expected: Tensor, source: str, hint: str) -> None:
    """Refuses a tensor that is not finite, or has no real numbers where the model has.

    Raises:
        EarwitnessError: so it is.
    """
    if not expected.is_floating_point():
        return
    if found.dtype not in REAL:
        kind = str(found.dtype).removeprefix("torch.")
        raise EarwitnessError(f"{source}: {name} is {kind}, not real numbers; {hint}")
    # the sum is not finite where a value is not, and takes no memory of the tensor's size
    if not (found.sum(dtype=torch.float64).isfinite() or found.isfinite().all()):
        raise EarwitnessError(f"{source}: {name} has NaN or infinity; {hint}")


def save_weights(
    tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Writes safetensors whole or not at all."""
    with replacing(path) as temporary:
        save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, temporary, metadata)


def read_weights(path: Path, hint: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file; ``hint`` says what to do when it is missing or broken."""
    check_file(path, hint)
    with one_line(path, hint, "not safetensors"):
        return load_file(path)

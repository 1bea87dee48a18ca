"""PANNs' convolution blocks (Kong et al. 2020), with padding masked out.

Importing the package panns_inference runs wget and writes to the home folder, so only its module
of model classes is executed here, under an empty parent package.
"""

from __future__ import annotations

import copyreg
import importlib
import importlib.util
import math
import sys
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline import ranks
from pipeline.errors import EarwitnessError

ALIAS = "_panns_models"  # the empty parent's name


@cache
def panns_models() -> ModuleType:
    """panns_inference/models.py, executed without its package.

    It imports matplotlib without using it, which would write a cache to the home folder: it gets an
    empty module instead.
    """
    spec = importlib.util.find_spec("panns_inference")  # does not run it
    if spec is None or not spec.submodule_search_locations:
        raise EarwitnessError("panns-inference is not installed; `pip install panns-inference`")
    parent = ModuleType(ALIAS)
    parent.__path__ = list(spec.submodule_search_locations)
    pyplot = ModuleType("matplotlib.pyplot")
    plotting = ModuleType("matplotlib")
    plotting.pyplot = pyplot  # type: ignore[attr-defined]
    stubs = {ALIAS: parent, "matplotlib": plotting, "matplotlib.pyplot": pyplot}
    before = {name: sys.modules.get(name) for name in stubs}
    import torchlibrosa.stft  # noqa: F401  must import the real matplotlib

    sys.modules.update(stubs)
    try:
        models = importlib.import_module(f"{ALIAS}.models")
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    for kind in vars(models).values():
        if isinstance(kind, type) and kind.__module__ == models.__name__:
            copyreg.pickle(kind, _reduced)
    return models


def _reduced(module: nn.Module) -> tuple[Any, ...]:
    """Pickled by the name of its class: the class's own module cannot be imported by its name."""
    return _unbuilt, (type(module).__name__,), module.__dict__


def _unbuilt(name: str) -> Any:
    kind: Any = getattr(panns_models(), name)
    return kind.__new__(kind)


def conv_block(
    block: Any, x: Tensor, lengths: Tensor, pool: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """PANNs' ConvBlock: twice convolution, batch norm and ReLU, then the mean over ``pool``.

    Zeros follow each clip, alone and in a batch.

    Args:
        block: a ConvBlock.
        x: (B, C, T, M).
        lengths: (B,) int64, valid frames.
        pool: frames and bands that become one.

    Returns:
        (B, C', T // pool, M // pool) and (B,) valid frames.
    """
    x = F.relu_(masked_norm(block.bn1, block.conv1(zero_past(x, lengths)), lengths))
    x = F.relu_(masked_norm(block.bn2, block.conv2(zero_past(x, lengths)), lengths))
    if pool != (1, 1):
        x, lengths = F.avg_pool2d(x, pool), lengths // pool[0]
    return x, lengths


def zero_past(values: Tensor, lengths: Tensor) -> Tensor:
    """(B, C, T) or (B, C, T, M) with every frame past its clip's length set to zero."""
    valid = torch.arange(values.shape[2], device=values.device) < lengths[:, None]
    mask = valid[:, None] if values.ndim == 3 else valid[:, None, :, None]
    return values * mask.to(values.dtype)


def masked_norm(norm: Any, values: Tensor, lengths: Tensor) -> Tensor:
    """Batch norm; in training, its statistics are over valid frames alone, without padding.

    They are of the whole batch, also where it is divided among ranks.

    Args:
        norm: a BatchNorm1d or BatchNorm2d; its running statistics are updated in training.
        values: (B, C, T) or (B, C, T, M).
        lengths: (B,) int64, valid frames.

    Returns:
        The same shape; frames past a clip's length are undefined.
    """
    if not norm.training:
        out: Tensor = norm(values)
        return out
    others = [dim for dim in range(values.ndim) if dim != 1]
    each = (-1, *[1] * (values.ndim - 2))  # one value a channel
    count = ranks.summed(lengths.sum()) * math.prod(values.shape[3:])
    # two passes: E[x²] - E[x]² loses every digit where the mean is large, as a log-mel's is
    dtype = torch.promote_types(values.dtype, torch.float32)  # of the sums, in autocast too
    mean = ranks.summed(zero_past(values, lengths).sum(others, dtype=dtype)) / count
    centred = zero_past((values - mean.view(each)).to(values.dtype), lengths)
    variance = ranks.summed(centred.square().sum(others, dtype=dtype)) / count
    _move_statistics(norm, mean.detach(), variance.detach(), count)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return torch.addcmul(norm.bias.view(each), centred, scale.view(each)).to(values.dtype)


def whole_norm(norm: Any, values: Tensor) -> Tensor:
    """(N, C) → the same shape: batch norm of rows of which none is padding, as of one process.

    Args:
        norm: a BatchNorm1d.
    """
    if not (norm.training and ranks.shared()):
        normed: Tensor = norm(values)
        return normed
    ones = torch.ones(len(values), dtype=torch.int64, device=values.device)
    return masked_norm(norm, values[..., None], ones)[..., 0]


@torch.no_grad()
def _move_statistics(norm: Any, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    """As BatchNorm updates them: the running variance is the unbiased one."""
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), norm.momentum)
    norm.num_batches_tracked.add_(1)

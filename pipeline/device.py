"""Where and how to compute: device, precision, compilation, determinism."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeVar, cast

import torch

from pipeline.errors import EarwitnessError
from pipeline.threads import limit

F = TypeVar("F", bound=Callable[..., object])


def set_up(device: str | torch.device, threads: int | Literal["auto"]) -> torch.device:
    """Limits the threads of this process, and gives the device of its job; called first.

    Raises:
        EarwitnessError: see :func:`resolve_device`.
    """
    limit(threads)
    return resolve_device(device)


def resolve_device(name: str | torch.device) -> torch.device:
    """``auto``: CUDA where there is one, else the CPU. Otherwise a torch device's name."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise EarwitnessError(f"device {name!r}: not a device; use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EarwitnessError(f"device {name!r}: no CUDA here; use auto or cpu")
    return device


def rank_device(name: str, number: int, here: int) -> torch.device:
    """The device of process ``number`` of the ``here`` on this machine: the CPU, or a GPU each.

    Raises:
        EarwitnessError: there are not so many GPUs, or see :func:`resolve_device`.
    """
    device = resolve_device(name)
    if device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise EarwitnessError(
            f"device {name!r}: several processes share the CPU, or have a GPU each; "
            "use auto, cpu or cuda, or set hardware.processes: 1"
        )
    if here > (found := torch.cuda.device_count()):
        raise EarwitnessError(
            f"{here} processes on this machine, but {found} GPU{'s' * (found > 1)}; "
            f"set hardware.processes: {found}, or auto"
        )
    return torch.device("cuda", number)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """bf16 where ``precision`` says so; ``auto`` means on CUDA alone. Weights stay float32."""
    if precision == "bfloat16" or (precision == "auto" and device.type == "cuda"):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def compiled(step: F, mode: str) -> F:
    """``torch.compile`` of a step function, where ``mode`` is ``on``.

    ``auto`` does without: on an H200 a compiled step of EDTC at the paper's size was 1.1 times as
    fast, after 211 s of compiling, and a GRU's slower (docs/scale.md). What gains by it, the
    loops of TRANSLATOR, is compiled in pipeline/models/layers/recurrence.py.

    The whole step is compiled, not the model: that would change the names in a checkpoint.
    ``dynamic``, because captions differ in length from batch to batch.
    """
    if mode == "on":
        from pipeline.compiling import Compiled  # slow to import

        return cast(F, Compiled(step, dynamic=True))
    return step


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """In this context the CPU uses deterministic kernels alone. CUDA stays fast, and may vary."""
    before = torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic
    fill = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(device.type == "cpu" or before)
    settings.fill_uninitialized_memory = False  # a debugging aid that costs time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = fill

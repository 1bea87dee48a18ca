"""Functions that ``torch.compile`` leaves as they are.

``torch.compiler.disable`` loads the compiler at once, which takes a second, also where nothing will
be compiled. Here functions wait until it is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial, wraps
from typing import ParamSpec, TypeVar

import torch

A = ParamSpec("A")
R = TypeVar("R")

COMPILER = "torch._dynamo"
_waiting: list[Callable[[], None]] = []


def uncompiled(function: Callable[A, R], recursive: bool = True) -> Callable[A, R]:
    """A function that is not traced, as ``torch.compiler.disable`` gives it.

    Args:
        recursive: nor is what it calls.
    """
    disable = partial(torch.compiler.disable, recursive=recursive)
    if COMPILER in sys.modules:
        return disable(function)
    run = [function]

    def wait() -> None:
        run[0] = disable(function)

    _waiting.append(wait)

    @wraps(function)
    def call(*args: A.args, **kwargs: A.kwargs) -> R:
        return run[0](*args, **kwargs)

    return call


def compiler_loaded() -> None:
    """Called once the compiler is loaded, before it compiles anything."""
    while _waiting:
        _waiting.pop()()

"""``torch.compile`` that never ends a job; imported where something is compiled: it is slow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException
from torch._functorch import config

from pipeline.uncompiled import compiler_loaded

compiler_loaded()

# the compiler puts off a backward pass until it is needed; here its failure must show at once
AT_ONCE = "force_non_lazy_backward_lowering"  # torch 2.6 has no such setting


class Compiled:
    """A function by ``torch.compile``; where the compiler itself fails, the function as it is.

    torch's compiler refuses some correct programs, others with each version. That is said in one
    line, and the work goes on; an error of the function itself is raised as it is.
    """

    def __init__(self, function: Callable[..., Any], dynamic: bool | None = None) -> None:
        self.function = function
        self.run = torch.compile(function, dynamic=dynamic)

    def __call__(self, *inputs: Any) -> Any:
        if self.run is self.function:
            return self.function(*inputs)
        try:
            with _at_once():
                return self.run(*inputs)
        except TorchDynamoException as error:
            reason = " ".join(str(error).split("\n")[:2]) or type(error).__name__
            print(f"not compiled, so slower: torch.compile failed: {reason}", file=sys.stderr)
            self.run = self.function
            return self.function(*inputs)


def _at_once() -> AbstractContextManager[Any]:
    return config.patch({AT_ONCE: True}) if hasattr(config, AT_ONCE) else nullcontext()

"""Functions that the compiler leaves alone, and that do not load it: each in a fresh process."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import REPOSITORY

# `own` is python that a trace cannot follow; sin and cos tell on which side of it an operation is
TRACED = """
import sys, torch
from functools import partial
from pipeline.uncompiled import uncompiled

seen = []

class Model(torch.nn.Module):
    @uncompiled
    def own(self, x, times):
        return x + sum(float(torch.sin(x[0])) for _ in range(times))

    def forward(self, x, times):
        return self.own(torch.cos(x), times) * 2

def inner(x):
    return torch.exp(x)

@partial(uncompiled, recursive=False)
def outer(x):
    return inner(torch.sin(x)) + 1

assert "torch._dynamo" not in sys.modules
model, x = Model(), torch.ones(3)
plain = model(x, 2), outer(x)
assert "torch._dynamo" not in sys.modules  # called, and still not loaded

def remember(graph, inputs):
    seen.append([node.target for node in graph.graph.nodes if node.op == "call_function"])
    return graph.forward

from pipeline import compiling
assert "torch._dynamo" in sys.modules

@uncompiled
def later(x):
    return torch.tan(x)

for own in (model, outer, lambda x: later(torch.cos(x))):
    for times in (2, 3) if own is model else (None,):
        given = (x,) if times is None else (x, times)
        torch.testing.assert_close(torch.compile(own, backend=remember)(*given), own(*given))
names = {getattr(each, "__name__", str(each)) for one in seen for each in one}
print(sorted(names & {"sin", "cos", "tan", "exp"}))
"""
LOADED = """
import sys
import stages.decode, pipeline.trained.captioner, pipeline.decoding.search
from pipeline.models.captioners import rlssr, seq2seq
from pipeline.models.layers import bigru, recurrence, translator
assert "torch" in sys.modules
print("torch._dynamo" in sys.modules)
"""


def said(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_is_uncompiled_is_not_traced_and_gives_the_same() -> None:
    """cos is outside of what is left alone; exp is below what is left alone by itself."""
    assert said(TRACED) == "['cos', 'exp']"


def test_captioners_do_not_load_the_compiler() -> None:
    assert said(LOADED) == "False"

"""What a failing compiler does to a job: nothing but a line."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException

from pipeline import compiling
from pipeline.compiling import Compiled
from pipeline.errors import EarwitnessError


def failing(graph: object, inputs: object) -> object:
    raise AssertionError("a split that does not fit")


def test_a_function_that_cannot_be_compiled_is_run_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, dynamic: real(f, backend=failing))
    values = torch.arange(3.0, requires_grad=True)
    double = Compiled(lambda x: 2 * x)
    with pytest.raises(TorchDynamoException) as caught:
        double.run(values)
    assert isinstance(caught.value, BackendCompilerFailed)
    for _ in range(2):
        assert torch.equal(double(values), 2 * values)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "a split that does not fit" in said


def test_an_error_of_the_function_is_raised_as_it_is() -> None:
    def refuse(x: torch.Tensor) -> torch.Tensor:
        raise EarwitnessError("the twin needs text")

    with pytest.raises(EarwitnessError, match=r"^the twin needs text$"):
        Compiled(refuse)(torch.ones(1))


def test_backward_passes_are_compiled_with_their_forward_passes() -> None:
    with compiling._at_once():
        assert getattr(compiling.config, compiling.AT_ONCE, True)

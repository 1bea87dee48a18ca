"""Training in tests: until it has learned, never for so many steps.

How many steps that takes differs from one make of CPU to another, which adds in another order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pipeline.models.captioners.base import Captioner
from pipeline.tensors import Batch


def until_learned(patience: float = 3) -> dict[str, Any]:
    """Settings of a training by its stage, which then ends by its score.

    Args:
        patience: epochs in which the validation's score did not rise.
    """
    return {"epochs": 60, "patience_epochs": patience}


def learn(
    model: Captioner,
    batch: Batch,
    *,
    until: Callable[[Any], bool],
    learning_rate: float = 3e-3,
    at_most: int = 1000,
) -> Any:
    """Trains on one batch until its losses, of the model in evaluation mode, satisfy ``until``.

    Decoding reads the model in that mode, and the losses of training say little of it: a dropout
    before a batch norm makes the statistics that are kept differ from those that were trained on.

    Args:
        until: of what :meth:`Captioner.loss` gives.
        at_most: steps, after which the test fails and says the losses.

    Returns:
        the losses that satisfied ``until``; the model is left in evaluation mode.
    """
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    for step in range(at_most):
        model.train()
        model.before_step(step, step + 1)  # as the last step of all: its schedules are at their end
        optimizer.zero_grad()
        model.loss(batch).total.backward()
        optimizer.step()
        model.after_step()
        model.eval()
        with torch.no_grad():
            losses = model.loss(batch)
        if until(losses):
            return losses
    pytest.fail(f"not learned in {at_most} steps: {losses}")


def by_heart(batch: Batch, pad: int) -> float:
    """The mean cross-entropy below which greedy decoding writes the batch's own captions.

    Its sum is then below log 2: no token has a probability of a half or less.
    """
    return math.log(2) / int((batch.tokens[:, 1:] != pad).sum())

"""Several captioners in one search: at every step their distributions are combined (SJTU 3).

``log_probs`` takes the mean of the log-probabilities, as SJTU's code does. It is not normalised
again, so a caption's log-probability is the mean of those that the members give it. ``probs`` takes
the mean of the probabilities, which is a distribution. A token to which one member gives
probability 0 has probability 0 under the first, but not under the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.device import autocast
from pipeline.errors import EarwitnessError
from pipeline.models.decoders.stepper import Stepper
from pipeline.tensors import Memory
from pipeline.trained.captioner import TrainedCaptioner

Combine = Literal["log_probs", "probs"]


@dataclass(frozen=True)
class Ensemble:
    """One captioner, or M of the same vocabulary, on one device and in evaluation mode.

    Raises:
        EarwitnessError: two of them have different vocabularies.
    """

    captioners: tuple[TrainedCaptioner, ...]
    combine: Combine = "log_probs"

    def __post_init__(self) -> None:
        first = self.captioners[0]
        meaning = first.tokenizer.digest(), first.model.tokens
        for other in self.captioners[1:]:
            if (other.tokenizer.digest(), other.model.tokens) != meaning:
                raise EarwitnessError(
                    f"ensemble: captioners {first.plan.name} and {other.plan.name} write in "
                    "different vocabularies; train both on one dataset with the same tokenizer "
                    "settings and split, or leave one out"
                )

    @property
    def device(self) -> torch.device:
        return next(self.captioners[0].model.parameters()).device


class EnsembleStepper:
    """A :class:`pipeline.models.decoders.stepper.Stepper` over M steppers of one vocabulary.

    Its memory and its state are tuples with one entry for each member.
    """

    def __init__(self, steppers: Sequence[Stepper], combine: Combine) -> None:
        self.steppers = tuple(steppers)
        self.combine = combine
        first = self.steppers[0]
        self.vocabulary, self.pad = first.vocabulary, first.pad
        self.begin, self.end = first.begin, first.end

    def start(self, memory: tuple[Memory, ...], beams: int, max_length: int) -> tuple[Any, ...]:
        """See :class:`Stepper`; one memory for each member."""
        pairs = zip(self.steppers, memory, strict=True)
        return tuple(stepper.start(each, beams, max_length) for stepper, each in pairs)

    def step(self, tokens: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        """(B, K) tokens to (B, K, V) combined log-probabilities; see :class:`Stepper`."""
        pairs = zip(self.steppers, state, strict=True)
        steps = [stepper.step(tokens, each) for stepper, each in pairs]
        combined = combine_log_probs([log_probs for log_probs, _ in steps], self.combine)
        return combined, tuple(after for _, after in steps)

    def reorder(self, state: tuple[Any, ...], parents: Tensor) -> tuple[Any, ...]:
        """See :class:`Stepper`."""
        pairs = zip(self.steppers, state, strict=True)
        return tuple(stepper.reorder(each, parents) for stepper, each in pairs)

    def select(self, state: tuple[Any, ...], clips: Tensor) -> tuple[Any, ...]:
        """See :class:`Stepper`."""
        pairs = zip(self.steppers, state, strict=True)
        return tuple(stepper.select(each, clips) for stepper, each in pairs)


def combine_log_probs(log_probs: Sequence[Tensor], combine: Combine) -> Tensor:
    """Combines M × (B, K, V) log-probabilities in place of the first; −inf is probability 0."""
    total, *others = log_probs
    if not others:
        return total
    for other in others:
        if combine == "probs":
            torch.logaddexp(total, other, out=total)
        else:
            total += other
    if combine == "probs":
        return total.sub_(math.log(len(log_probs)))
    return total.div_(len(log_probs))


class InPrecision:
    """A stepper that runs in its own precision, where the members of an ensemble differ in it."""

    def __init__(self, stepper: Stepper, precision: str, device: torch.device) -> None:
        self.stepper, self.precision, self.device = stepper, precision, device
        self.vocabulary, self.pad = stepper.vocabulary, stepper.pad
        self.begin, self.end = stepper.begin, stepper.end
        self.reorder, self.select = stepper.reorder, stepper.select

    def start(self, memory: Memory, beams: int, max_length: int) -> Any:
        with autocast(self.precision, self.device):
            return self.stepper.start(memory, beams, max_length)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        with autocast(self.precision, self.device):
            return self.stepper.step(tokens, state)

"""The hypotheses of self-critical training: sampled ones, and the greedy one.

All hypotheses of a clip are rows of one batched, cached search. Each is drawn from the model's
distribution without ``begin`` and padding, which no caption contains. Nothing else is excluded, so
that :mod:`pipeline.losses.policy` knows the probability of every draw.

**The longest.** A hypothesis of ``max_length`` words that has not ended is made to end. The model
did not choose that end: it is not among the ``chosen`` tokens, so the loss leaves it out, and
``ended`` is false, so the reward is that of a sentence without its end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.decoding.chains import Chains
from pipeline.decoding.rules import Rules
from pipeline.decoding.sampling import draw, uniforms
from pipeline.decoding.search import run_search
from pipeline.models.decoders.stepper import Stepper

_STEPS = 1 << 32  # more than any run has: seed and step are joined to one number


class Rollout(NamedTuple):
    """K hypotheses a clip, in the order they were drawn; the greedy one, if any, is the last."""

    tokens: Tensor  # (B, K, L) int64, begin … end, then padding; L is max_length + 2
    chosen: Tensor  # (B, K, L − 1) bool: whether the model chose token l + 1
    ended: Tensor  # (B, K) bool, false where max_length forced the end


@torch.no_grad()
def rollout(
    stepper: Stepper,
    memory: Any,
    *,
    clips: Tensor,
    samples: int,
    greedy: bool,
    max_length: int,
    temperature: float = 1.0,
    seed: int = 1,
    step: int = 0,
) -> Rollout:
    """Hypotheses of B clips, K = ``samples`` + ``greedy`` each.

    The draws depend on ``seed``, ``step`` and the clip alone: not on the other clips of the batch,
    the device or a generator's state.

    Args:
        stepper: of the model, in evaluation mode.
        memory: of the clips.
        clips: (B,) int64, each clip's number.
        greedy: adds one hypothesis, of the likeliest token at every step.
        max_length: tokens between begin and end.
        temperature: divides the log-probabilities of the samples.
        step: the training step, from 0.
    """
    rules = Rules(stepper.begin, stepper.pad, stepper.end, max_length=max_length)
    clips = clips.to(memory.values.device)

    def choose(log_probs: Tensor, rows: Tensor, position: int) -> Tensor:
        uniform = uniforms(seed * _STEPS + step, clips[rows], samples, position)
        chosen = draw(log_probs[:, :samples], uniform, temperature=temperature)
        best = log_probs[:, samples:].argmax(-1)
        return torch.cat((chosen, best), 1)

    rows = torch.arange(len(clips), device=clips.device)
    chains = Chains(rules, rows, samples + greedy, choose)
    tokens, _ = run_search(stepper, memory, rules, chains)
    last = tokens[:, :, -1] != rules.pad  # then every position before holds a word
    chosen = tokens[:, :, 1:] != rules.pad
    chosen[:, :, -1] = False
    return Rollout(tokens, chosen, ~last)

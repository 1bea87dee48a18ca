"""What self-critical training learns from: sampled hypotheses, and the greedy one beside them.

All of a clip's hypotheses are rows of one batched, cached search. Each is drawn from the model's
own distribution without ``begin`` and padding, which no caption holds; nothing else is ruled out,
so that :mod:`pipeline.losses.policy` knows the probability of every draw.

**The longest.** A hypothesis of ``max_length`` words that has not ended is made to end. That end is
no choice of the model: it is not among the ``chosen`` tokens, so the loss leaves it out, and
``ended`` is false, so the reward sees a sentence without its end.
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

_STEPS = 1 << 32  # more than any run has: a seed and a step make one number


class Rollout(NamedTuple):
    """K hypotheses a clip, in the order they were drawn; the greedy one, if any, is the last."""

    tokens: Tensor  # (B, K, L) int64, begin … end, then padding; L is max_length + 2
    chosen: Tensor  # (B, K, L − 1) bool: whether the model itself took token l + 1
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

    The draws follow from ``seed``, ``step`` and the clip alone: not from the other clips of the
    batch, nor from the device, nor from a generator's state.

    Args:
        stepper: of the model, in evaluation mode.
        memory: of the clips.
        clips: (B,) int64, each clip's number.
        greedy: whether the likeliest token at every step gives one hypothesis more.
        max_length: words, or tokens between begin and end.
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
    last = tokens[:, :, -1] != rules.pad  # a word stands in every place before
    chosen = tokens[:, :, 1:] != rules.pad
    chosen[:, :, -1] = False
    return Rollout(tokens, chosen, ~last)

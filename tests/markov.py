"""A captioner of three tables, whose every distribution a test can write down."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.captioners.base import Captioner, Learning
from pipeline.tensors import Memory, Padded, TokenIds

WIDTH = 3  # of the features; a clip is a direction of them


class Markov(Captioner):
    """Logits of the next token: by the last one, and by the clip, with dropout."""

    def __init__(self, tokens: TokenIds, dropout: float = 0.0) -> None:
        super().__init__(tokens, Learning(0.0, 1.0, seed=1, compiled=False))
        self.bigram = nn.Parameter(torch.randn(tokens.size, tokens.size))
        self.clip = nn.Linear(WIDTH, tokens.size)
        self.dropout = nn.Dropout(dropout)

    def loss(self, batch: Any) -> Any:
        raise NotImplementedError

    def encode(self, features: Sequence[Padded]) -> Memory:
        (padded,) = features
        return Memory(self.dropout(self.clip(padded.values)), padded.mask)

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        return self.bigram[tokens] + memory.values[:, :1]

    def stepper(self) -> MarkovStepper:
        return MarkovStepper(self)


class MarkovStepper:
    """Its state is the memory."""

    def __init__(self, model: Markov) -> None:
        self.model = model
        self.vocabulary, self.begin, self.pad, self.end = model.tokens

    def start(self, memory: Memory, beams: int, max_length: int) -> Memory:
        return memory

    def step(self, tokens: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        return self.model.logits(state, tokens).float().log_softmax(-1), state

    def reorder(self, state: Memory, parents: Tensor) -> Memory:
        return state

    def select(self, state: Memory, clips: Tensor) -> Memory:
        return Memory(state.values[clips], state.mask[clips])


def features(clips: Sequence[int]) -> tuple[Padded]:
    """One frame for each of B clips."""
    values = torch.eye(WIDTH)[torch.tensor(clips) % WIDTH][:, None]
    return (Padded(values, torch.ones(len(clips), dtype=torch.int64)),)


def every(tokens: TokenIds, longest: int) -> list[list[int]]:
    """All captions of at most ``longest`` words, ``begin … end``."""
    words = [i for i in range(tokens.size) if i not in (tokens.begin, tokens.pad, tokens.end)]
    inner = (row for n in range(longest + 1) for row in itertools.product(words, repeat=n))
    return [[tokens.begin, *row, tokens.end] for row in inner]


def caption_log_prob(
    model: Markov, clip: int, row: Sequence[int], longest: int, temperature: float = 1.0
) -> Tensor:
    """Of one caption, token by token: begin and pad are never drawn, a last end is no choice."""
    memory = model.encode(features([clip]))
    total = torch.zeros(())
    for at in range(1, len(row)):
        if at > longest:
            break
        logits = model.logits(memory, torch.tensor([row[:at]]))[0, -1] / temperature
        allowed = [i for i in range(len(logits)) if i not in (model.tokens.begin, model.tokens.pad)]
        total = total + logits[row[at]] - logits[allowed].logsumexp(0)
    return total

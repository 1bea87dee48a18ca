"""Captions of clips from a trained captioner, in batches; of several see ensemble.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from pipeline.config.evaluation import DecodingConfig
from pipeline.decoding.search import Hypotheses, decode
from pipeline.device import autocast
from pipeline.features.bank import FeatureBank
from pipeline.tensors import Padded
from pipeline.text.tokenizer import Tokenizer

if TYPE_CHECKING:  # training validates with this module
    from pipeline.trained.captioner import TrainedCaptioner

F = TypeVar("F")


class Caption(NamedTuple):
    """A clip's best caption, and its other hypotheses, best first."""

    text: str
    log_prob: float  # the model's own, of all tokens with the end of sentence
    candidates: tuple[tuple[str, float], ...]  # (text, log_prob)


def predict(
    captioner: TrainedCaptioner, features: Iterable[tuple[Padded, ...]], decoding: DecodingConfig
) -> Iterator[list[Caption]]:
    """The captions of each batch in turn.

    Args:
        captioner: its model in evaluation mode.
        features: batches of E × (B, T, D), on the model's device.
        decoding: of the search; its ``batch`` is not used here.
    """
    stepper = captioner.model.stepper()

    def find(batch: tuple[Padded, ...], first: int) -> Hypotheses:
        with autocast(captioner.plan.training.precision, batch[0].values.device):
            memory = captioner.model.encode(batch)
            return decode(stepper, memory, decoding, clips=numbers(batch, first))

    yield from predict_batches(features, find, captioner.tokenizer)


def predict_batches(
    features: Iterable[F], find: Callable[[F, int], Hypotheses], tokenizer: Tokenizer
) -> Iterator[list[Caption]]:
    """The captions of each batch in turn.

    Args:
        find: a batch and the number of its first clip → its hypotheses; without gradients.
    """
    seen = 0
    for batch in features:
        with torch.no_grad():
            hypotheses = find(batch, seen)
        yield _captions(hypotheses, tokenizer)
        seen += len(hypotheses.tokens)


def numbers(batch: tuple[Padded, ...], first: int) -> Tensor:
    """(B,) int64, ``first`` and on: a clip's draws are the same in any batch."""
    values = batch[0].values
    return torch.arange(first, first + len(values), device=values.device)


def bank_batches(banks: Sequence[FeatureBank], size: int) -> Iterator[tuple[Padded, ...]]:
    """All clips of E banks, their clean views, ``size`` at a time."""
    for clips in torch.arange(len(banks[0].ids)).split(size):
        yield tuple(bank.batch(clips * bank.views) for bank in banks)


def _captions(hypotheses: Hypotheses, tokenizer: Tokenizer) -> list[Caption]:
    beams = hypotheses.tokens.shape[1]
    texts = tokenizer.decode(hypotheses.tokens.flatten(0, 1))
    log_probs: Tensor = hypotheses.log_probs.flatten()
    found = list(zip(texts, log_probs.tolist(), strict=True))
    rows = [found[at : at + beams] for at in range(0, len(found), beams)]
    return [
        # a hypothesis of probability 0 stands where there are fewer captions than beams
        Caption(*row[0], tuple(other for other in row[1:] if other[1] > float("-inf")))
        for row in rows
    ]

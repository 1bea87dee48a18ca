"""Captions of clips, in batches, from one trained captioner or an ensemble of several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline import ranks
from pipeline.config.evaluation import DecodingConfig
from pipeline.decoding.ensemble import Ensemble, EnsembleStepper, InPrecision
from pipeline.decoding.search import Hypotheses, decode
from pipeline.device import autocast
from pipeline.features.bank import FeatureBank
from pipeline.models.decoders.stepper import Stepper
from pipeline.tensors import Padded
from pipeline.text.tokenizer import Tokenizer

LONGEST = 10_000  # tokens, which no caption has


class Caption(NamedTuple):
    """A clip's best caption, and its other hypotheses, best first."""

    text: str
    log_prob: float  # by the ensemble, of all tokens and the end of sentence
    candidates: tuple[tuple[str, float], ...]  # (text, log_prob)
    unsure: bool | None = None  # less likely than nearly all held-out ones; None: not known


@torch.no_grad()
def predict(
    ensemble: Ensemble,
    features: Iterable[Sequence[tuple[Padded, ...]]],
    decoding: DecodingConfig,
    seed: int = 1,
) -> Iterator[list[Caption]]:
    """The captions of each batch in turn.

    Args:
        features: batches of M × E × (B, T, D), for each member its E features, on the device.
        decoding: settings of the search; ``batch`` is not used here.
        seed: of sampling; a clip's draws depend on its number among all clips, not on its batch.
    """
    members, device = ensemble.captioners, ensemble.device
    precisions = [member.plan.hardware.precision for member in members]
    steppers: list[Stepper] = [member.model.stepper() for member in members]
    one_precision = len(set(precisions)) == 1
    if not one_precision:
        pairs = zip(steppers, precisions, strict=True)
        steppers = [InPrecision(stepper, precision, device) for stepper, precision in pairs]
    stepper = EnsembleStepper(steppers, ensemble.combine)
    done = 0
    for batch in features:
        memory = []
        for member, inputs, precision in zip(members, batch, precisions, strict=True):
            with autocast(precision, device):
                memory.append(member.model.encode(inputs))
        size = len(memory[0].values)
        clips = torch.arange(done, done + size, device=device)
        # where possible, one context around all steps: it casts the weights once
        with autocast(precisions[0], device) if one_precision else nullcontext():
            hypotheses = decode(stepper, tuple(memory), decoding, seed=seed, clips=clips)
        yield _captions(hypotheses, members[0].tokenizer)
        done += size


def bank_batches(banks: Sequence[FeatureBank], size: int) -> Iterator[tuple[Padded, ...]]:
    """The clean views of all clips of E banks, ``size`` clips at a time; ranks divide these."""
    for clips in ranks.mine(torch.arange(len(banks[0].ids)).split(size)):
        yield tuple(bank.batch(clips * bank.views) for bank in banks)


def _captions(hypotheses: Hypotheses, tokenizer: Tokenizer) -> list[Caption]:
    beams = hypotheses.tokens.shape[1]
    texts = tokenizer.decode(hypotheses.tokens.flatten(0, 1))
    log_probs: Tensor = hypotheses.log_probs.flatten()
    found = list(zip(texts, log_probs.tolist(), strict=True))
    rows = [found[at : at + beams] for at in range(0, len(found), beams)]
    return [
        # where there are fewer captions than beams, the last have probability 0
        Caption(*row[0], tuple(other for other in row[1:] if other[1] > float("-inf")))
        for row in rows
    ]


def per_token(
    texts: Sequence[str], log_probs: Sequence[float], tokenizer: Tokenizer
) -> list[float]:
    """The mean log-probability of each caption's tokens, the end among them."""
    lengths = [len(ids) - 1 for ids in tokenizer.encode(texts, LONGEST)]
    return [total / length for total, length in zip(log_probs, lengths, strict=True)]

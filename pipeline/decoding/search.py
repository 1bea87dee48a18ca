"""One batched search for every model: greedy, sampling and beam, over a Stepper.

Only time is a Python loop. Finished clips leave the batch, so short captions do not wait for a long
one.

**Beam search.** Each step takes the best 2K continuations of a clip's K live hypotheses. Those
among the best K that end are finished, with the score ``log p / n ** length_penalty``, where n
counts the generated tokens and the end; the best K that do not end stay live. A clip keeps its K
best finished hypotheses, and is done when no live one is expected to be better than the worst of
them. By default a live one is judged as if it ended now with its present log-probability (the rule
of transformers' ``early_stopping=False``). ``exact_stop`` judges by the best score that any
continuation could reach: this is never wrong and, with a positive penalty, stops later (their
``early_stopping="never"``). With ``early_stopping`` a clip is also done as soon as K of its
hypotheses have finished, whatever the live ones could reach (their ``True``). A
hypothesis of ``max_length`` tokens must end next, and the probability of that end counts: every
hypothesis ends in ``end``.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from pipeline.config.evaluation import DecodingConfig
from pipeline.decoding.beams import Beams
from pipeline.decoding.chains import Chains
from pipeline.decoding.rules import Rules
from pipeline.decoding.sampling import draw, uniforms
from pipeline.errors import EarwitnessError
from pipeline.models.decoders.stepper import Stepper
from pipeline.tensors import Memory

Method = Literal["beam", "greedy", "sample"]
_LEAVE = 8  # finished clips leave once they are at least one in 8


class Hypotheses(NamedTuple):
    """K captions a clip, best first by score.

    Where there are fewer than K captions, the last are empty with a score of −inf.
    """

    tokens: Tensor  # (B, K, L) int64, begin … end, then padding, as Batch.tokens
    lengths: Tensor  # (B, K) int64, tokens, begin and end among them
    log_probs: Tensor  # (B, K) float32, the model's log p of all tokens after begin
    scores: Tensor  # (B, K) float32, log_probs / (lengths − 1) ** length_penalty


def decode(
    stepper: Stepper,
    memory: Any,
    settings: DecodingConfig,
    *,
    seed: int = 1,
    clips: Tensor | None = None,
) -> Hypotheses:
    """:func:`search` with the settings of ``params.yaml``."""
    return search(stepper, memory, seed=seed, clips=clips, **settings.model_dump(exclude={"batch"}))


@torch.no_grad()
def search(
    stepper: Stepper,
    memory: Any,
    *,
    method: Method = "beam",
    beams: int = 4,
    length_penalty: float = 1.0,
    no_repeat_ngram: int = 0,
    min_length: int = 0,
    max_length: int = 40,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 1,
    clips: Tensor | None = None,
    exact_stop: bool = False,
    early_stopping: bool = False,
) -> Hypotheses:
    """Captions of B clips.

    Args:
        stepper: the model, or an ensemble.
        memory: what the stepper starts from: a :class:`Memory`, or a tuple of them.
        method: ``greedy`` gives one hypothesis; ``sample`` draws ``beams`` independent ones.
        beams: K.
        length_penalty: see :class:`Hypotheses`.
        no_repeat_ngram: no n-gram of this size twice in a hypothesis; 0: off.
        min_length, max_length: tokens between begin and end.
        temperature, top_p: of sampling; they do not change ``log_probs``.
        seed: of sampling: the same draws for the same seed and clip in any batch.
        clips: (B,) int64, each clip's number for its draws; 0 … B − 1 where not given.
        exact_stop, early_stopping: see the top of this module.

    Raises:
        EarwitnessError: a setting outside its range.
    """
    rules = Rules(stepper.begin, stepper.pad, stepper.end, min_length, max_length, no_repeat_ngram)
    beams = 1 if method == "greedy" else beams
    _check(rules, stepper.vocabulary, beams, temperature, top_p)
    first = memory if isinstance(memory, Memory) else memory[0]
    rows = torch.arange(first.values.shape[0], device=first.values.device)
    keys = rows if clips is None else clips.to(rows.device)

    def greedy(log_probs: Tensor, rows: Tensor, step: int) -> Tensor:
        return log_probs.argmax(-1)

    def sample(log_probs: Tensor, rows: Tensor, step: int) -> Tensor:
        uniform = uniforms(seed, keys[rows], beams, step)
        return draw(log_probs, uniform, temperature=temperature, top_p=top_p)

    running: Beams | Chains
    if method == "beam":
        running = Beams(rules, rows, beams, length_penalty, exact_stop, early_stopping)
    else:
        running = Chains(rules, rows, beams, greedy if method == "greedy" else sample)
    tokens, log_probs = run_search(stepper, memory, rules, running)
    return _best_first(tokens, log_probs, rules, length_penalty)


def run_search(
    stepper: Stepper, memory: Any, rules: Rules, running: Beams | Chains
) -> tuple[Tensor, Tensor]:
    """(B, K, L) tokens and (B, K) log-probabilities of all clips, each searched to its end."""
    state = stepper.start(memory, running.tokens.shape[1], rules.max_length + 1)
    tokens, log_probs = (result.clone() for result in running.finished())
    every = 4 if tokens.is_cuda else 1  # to ask which are done waits for the GPU
    for step in range(1, rules.max_length + 2):
        written = running.tokens[:, :, :step]
        next_log_probs, state = stepper.step(written[:, :, -1], state)
        parents = running.advance(rules.apply(next_log_probs, written), step)
        if parents is not None:
            state = stepper.reorder(state, parents)
        if step % every:
            continue
        live = (~running.done).nonzero()[:, 0]
        if len(live) == 0:
            break
        left = len(running.rows) - len(live)
        if left * _LEAVE >= len(running.rows):
            _write(running, tokens, log_probs)
            running.select(live)
            state = stepper.select(state, live)
    _write(running, tokens, log_probs)
    return tokens, log_probs


def _write(running: Beams | Chains, tokens: Tensor, log_probs: Tensor) -> None:
    tokens[running.rows], log_probs[running.rows] = running.finished()


def _best_first(
    tokens: Tensor, log_probs: Tensor, rules: Rules, length_penalty: float
) -> Hypotheses:
    missing = log_probs.isneginf()
    tokens[:, :, 1:].masked_fill_(missing[..., None], rules.pad)
    tokens[:, :, 1].masked_fill_(missing, rules.end)
    lengths = (tokens != rules.pad).sum(-1)
    scores = log_probs / (lengths - 1) ** length_penalty
    scores, order = scores.sort(dim=-1, descending=True, stable=True)
    lengths = lengths.gather(-1, order)
    tokens = tokens.gather(1, order[..., None].expand_as(tokens))[:, :, : int(lengths.max())]
    return Hypotheses(tokens, lengths, log_probs.gather(-1, order), scores)


def _check(rules: Rules, vocabulary: int, beams: int, temperature: float, top_p: float) -> None:
    if rules.max_length < 1 or not 0 <= rules.min_length <= rules.max_length:
        raise EarwitnessError(
            f"decoding: min_length {rules.min_length} and max_length {rules.max_length}; "
            "give 0 ≤ min_length ≤ max_length and max_length ≥ 1"
        )
    if beams < 1 or rules.no_repeat_ngram < 0:
        raise EarwitnessError(
            f"decoding: beams {beams} and no_repeat_ngram {rules.no_repeat_ngram}; "
            "give beams ≥ 1 and no_repeat_ngram ≥ 0"
        )
    if vocabulary < 4:
        raise EarwitnessError(f"decoding: {vocabulary} tokens; give begin, pad, end and a word")
    if temperature <= 0 or not 0 < top_p <= 1:
        raise EarwitnessError(
            f"decoding: temperature {temperature} and top_p {top_p}; "
            "give temperature > 0 and 0 < top_p ≤ 1"
        )

"""The search against exhaustive search, plain loops and transformers' generate."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from transformers import BartForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from pipeline.config.bart import BartConfig
from pipeline.config.evaluation import DecodingConfig
from pipeline.decoding.rules import Rules
from pipeline.decoding.sampling import draw, uniforms
from pipeline.decoding.search import Hypotheses, decode, search
from pipeline.errors import EarwitnessError
from pipeline.models.decoders.bart import Bart
from pipeline.tensors import Memory, TokenIds

B, T, D = 6, 5, 16
BEGIN, PAD, END = 0, 1, 2


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@torch.no_grad()
def model_of(vocabulary: int, ending: float = 0.0) -> tuple[Bart, Memory]:
    """A random model that is sure enough of itself for hypotheses to differ, and B clips."""
    settings = BartConfig(
        pretrained=None, encoder_layers=1, decoder_layers=2, heads=2, width=D, feed_forward=32
    )
    model = Bart.from_settings(settings, TokenIds(vocabulary, begin=0, pad=1, end=2)).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.mul_((D / 768) ** 0.5)  # what scales with the width would end every caption
        weight.add_(torch.randn_like(weight), alpha=0.4)
    model.final_logits_bias[END] = ending
    mask = torch.arange(T) < torch.tensor([5, 3, 5, 1, 4, 2])[:, None]
    return model, model.encode(torch.randn(B, T, D), mask)


@torch.no_grad()
def next_log_probs(model: Bart, memory: Memory, row: list[int]) -> Tensor:
    """(V,) after one row of tokens, of a memory of one clip."""
    return model.logits(memory, torch.tensor([row]))[0, -1].log_softmax(-1)


def clip_of(memory: Memory, clip: int) -> Memory:
    return Memory(memory.values[clip : clip + 1], memory.mask[clip : clip + 1])


def rows(found: Hypotheses, clip: int) -> list[list[int]]:
    lengths = found.lengths[clip].tolist()
    return [row[:n] for row, n in zip(found.tokens[clip].tolist(), lengths, strict=True)]


def allowed(row: list[int], vocabulary: int, rules: Rules) -> list[int]:
    """The tokens that may follow a row, by the plainest reading of the rules."""
    written = row[1:]
    if len(written) >= rules.max_length:
        return [END]
    size = rules.no_repeat_ngram
    there = (
        {tuple(written[i : i + size]) for i in range(len(written) - size + 1)} if size else set()
    )
    tokens = []
    for token in range(vocabulary):
        if token in (BEGIN, PAD) or (token == END and len(written) < rules.min_length):
            continue
        if size and tuple([*written, token][-size:]) in there and len(written) + 1 >= size:
            continue
        tokens.append(token)
    return tokens


def plain_beam(
    model: Bart, memory: Memory, rules: Rules, beams: int, penalty: float, stops: bool
) -> list[tuple[float, float, list[int]]]:
    """Beam search over one clip with lists and no cache: (score, log p, row), best first."""
    live = [(0.0, [BEGIN])]
    ended: list[tuple[float, float, list[int]]] = []
    for step in range(1, rules.max_length + 2):
        grown = []
        for total, row in live:
            log_probs = next_log_probs(model, memory, row).tolist()
            for token in allowed(row, model.tokens.size, rules):
                grown.append((total + log_probs[token], [*row, token]))
        grown.sort(key=lambda pair: -pair[0])
        ended += [(t / step**penalty, t, row) for t, row in grown[:beams] if row[-1] == END]
        ended = sorted(ended, key=lambda triple: -triple[0])[:beams]
        live = [pair for pair in grown if pair[1][-1] != END][:beams]
        full = len(ended) == beams
        if not live or (stops and full and live[0][0] / step**penalty <= ended[-1][0]):
            break
    return ended


def check_scores(model: Bart, memory: Memory, found: Hypotheses, penalty: float) -> None:
    """``log_probs`` are the model's own for the rows, and scores follow from them."""
    for clip, beam in itertools.product(range(B), range(found.tokens.shape[1])):
        row = rows(found, clip)[beam]
        one = clip_of(memory, clip)
        total = sum(float(next_log_probs(model, one, row[:i])[row[i]]) for i in range(1, len(row)))
        assert float(found.log_probs[clip, beam]) == pytest.approx(total, abs=1e-4)
        score = total / (len(row) - 1) ** penalty
        assert float(found.scores[clip, beam]) == pytest.approx(score, abs=1e-4)
    assert (found.scores.diff(dim=-1) <= 0).all()


@torch.no_grad()
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_wide_beam_equals_exhaustive_search(penalty: float):
    """Three words, at most three in a caption: 40 captions in all, and a beam of 40."""
    words, longest = (3, 4, 5), 3
    model, memory = model_of(6)
    every = [
        [BEGIN, *inner, END]
        for length in range(longest + 1)
        for inner in itertools.product(words, repeat=length)
    ]
    found = search(
        model.stepper(),
        memory,
        beams=len(every),
        max_length=longest,
        length_penalty=penalty,
        exact_stop=True,
    )
    check_scores(model, memory, found, penalty)
    for clip in range(B):
        one = clip_of(memory, clip)
        scores = {}
        for row in every:
            log_probs = model.logits(one, torch.tensor([row]))[0].log_softmax(-1)
            total = float(log_probs[range(len(row) - 1), row[1:]].sum())
            scores[tuple(row)] = total / (len(row) - 1) ** penalty
        best = sorted(scores, key=lambda row: -scores[row])
        assert [tuple(row) for row in rows(found, clip)] == best


@pytest.mark.parametrize(
    ("penalty", "ngram", "shortest", "stops"),
    [
        (1.0, 0, 0, True),
        (1.0, 0, 0, False),
        (0.0, 2, 3, True),
        (0.0, 0, 2, False),
        (2.0, 1, 4, True),
        (1.3, 3, 0, False),
        (-1.0, 2, 0, False),
    ],
)
def test_beam_equals_the_plain_one(penalty: float, ngram: int, shortest: int, stops: bool):
    """``exact_stop`` finds what never stopping finds; the default stops as the plain rule does."""
    model, memory = model_of(12, ending=3.0)
    longest = 8
    found = search(
        model.stepper(),
        memory,
        beams=3,
        length_penalty=penalty,
        no_repeat_ngram=ngram,
        min_length=shortest,
        max_length=longest,
        exact_stop=not stops,
    )
    rules = Rules(BEGIN, PAD, END, shortest, longest, ngram)
    for clip in range(B):
        expected = plain_beam(model, clip_of(memory, clip), rules, 3, penalty, stops)
        assert rows(found, clip) == [row for _, _, row in expected]
        scores = torch.tensor([score for score, _, _ in expected])
        torch.testing.assert_close(found.scores[clip], scores, rtol=1e-4, atol=1e-4)
    if penalty <= 1:  # above, the longest caption wins everywhere
        assert len(found.lengths.unique()) > 1


@pytest.mark.parametrize(("ngram", "shortest"), [(0, 0), (2, 3), (1, 5)])
def test_greedy_equals_a_plain_loop_and_a_beam_of_one(ngram: int, shortest: int):
    model, memory = model_of(12, ending=3.0)
    limits: dict[str, Any] = {"no_repeat_ngram": ngram, "min_length": shortest, "max_length": 7}
    found = search(model.stepper(), memory, method="greedy", beams=4, **limits)
    beam = search(model.stepper(), memory, method="beam", beams=1, **limits)
    assert found.tokens.shape[1] == 1
    check_scores(model, memory, found, 1.0)
    rules = Rules(BEGIN, PAD, END, shortest, 7, ngram)
    for clip in range(B):
        row = [BEGIN]
        while row[-1] != END:
            log_probs = next_log_probs(model, clip_of(memory, clip), row)
            row.append(max(allowed(row, 12, rules), key=lambda token: float(log_probs[token])))
        assert rows(found, clip) == rows(beam, clip) == [row]


@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
@pytest.mark.parametrize("ngram", [1, 2, 3])
def test_no_ngram_twice(method: Any, ngram: int):
    model, memory = model_of(16, ending=-4.0)
    found = search(model.stepper(), memory, method=method, no_repeat_ngram=ngram, max_length=12)
    free = search(model.stepper(), memory, method=method, max_length=12)

    def most(found: Hypotheses) -> int:
        every = [row for clip in range(B) for row in rows(found, clip)]
        grams = [Counter(zip(*(row[i:] for i in range(ngram)), strict=False)) for row in every]
        return max(max(counts.values(), default=0) for counts in grams)

    assert most(found) == 1 < most(free)


@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
def test_lengths(method: Any):
    """Never shorter than the least, never longer than the most, always ended, never padded."""
    eager, memory = model_of(12, ending=8.0)
    assert int(search(eager.stepper(), memory, method=method).lengths.min()) == 2
    found = search(eager.stepper(), memory, method=method, min_length=4, max_length=6)
    assert int(found.lengths.min()) >= 4 + 2 and int(found.lengths.max()) <= 6 + 2
    never, memory = model_of(12, ending=-30.0)
    found = search(never.stepper(), memory, method=method, max_length=6)
    assert (found.lengths == 6 + 2).all()
    check_scores(never, memory, found, 1.0)
    for clip in range(B):
        for row in rows(found, clip):
            assert row[0] == BEGIN and row[-1] == END
            assert not {BEGIN, PAD, END} & set(row[1:-1])


@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
def test_a_clip_does_not_depend_on_its_batch(method: Any):
    """Nor on who left before it: each clip alone gives what it gives among the others."""
    model, memory = model_of(12, ending=3.0)
    clips = torch.tensor([7, 30, 2, 11, 5, 90])
    found = search(model.stepper(), memory, method=method, clips=clips, max_length=10)
    for clip in range(B):
        alone = search(
            model.stepper(),
            clip_of(memory, clip),
            method=method,
            clips=clips[clip : clip + 1],
            max_length=10,
        )
        assert rows(alone, 0) == rows(found, clip)
        torch.testing.assert_close(alone.log_probs[0], found.log_probs[clip])
    assert len({int(n) for n in found.lengths[:, 0]}) > 1


def test_fewer_captions_than_beams():
    model, memory = model_of(6)
    found = search(model.stepper(), memory, beams=10, max_length=1)  # nothing, or one of 3 words
    assert (found.scores[:, :4] > -math.inf).all() and (found.scores[:, 4:] == -math.inf).all()
    assert rows(found, 0)[4:] == [[BEGIN, END]] * 6


def transformers_of(model: Bart) -> Any:
    theirs: Any = BartForConditionalGeneration(model.config).eval()
    theirs.model.decoder.load_state_dict(model.decoder.state_dict())
    theirs.model.set_input_embeddings(theirs.model.decoder.embed_tokens)
    theirs.tie_weights()
    theirs.final_logits_bias = model.final_logits_bias[None].clone()
    return theirs


@pytest.mark.parametrize(("penalty", "ngram"), [(1.0, 0), (1.0, 2), (0.5, 3), (0.0, 0)])
@pytest.mark.parametrize("rule", [False, True, "never"])
def test_beam_equals_transformers(penalty: float, ngram: int, rule: bool | str):
    """By each of its rules of stopping, where no caption reaches the limit; there generate cuts,
    and this search ends.
    """
    model, memory = model_of(30, ending=4.0)
    found = search(
        model.stepper(),
        memory,
        beams=4,
        length_penalty=penalty,
        no_repeat_ngram=ngram,
        min_length=3,
        max_length=40,
        exact_stop=rule == "never",
        early_stopping=rule is True,
    )
    theirs = transformers_of(model).generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory.values),
        attention_mask=memory.mask.long(),
        num_beams=4,
        num_return_sequences=4,
        do_sample=False,
        length_penalty=penalty,
        no_repeat_ngram_size=ngram,
        min_new_tokens=3,
        max_new_tokens=41,
        early_stopping=rule,
        suppress_tokens=[BEGIN, PAD],
        output_scores=True,
        return_dict_in_generate=True,
    )
    expected = theirs.sequences.unflatten(0, (B, 4))
    lengths = (expected != PAD).sum(-1)
    short = ((lengths < 42) & (found.lengths < 42)).all(-1)
    assert short.sum() >= B - 2 and len(found.lengths[short].unique()) > 3 - (rule is True)
    width = int(lengths[short].max())
    assert torch.equal(found.tokens[short, :, :width], expected[short, :, :width])
    assert torch.equal(found.lengths[short], lengths[short])
    scores = theirs.sequences_scores.unflatten(0, (B, 4))
    torch.testing.assert_close(found.scores[short], scores[short], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("theirs_least", "ours"), [({"min_new_tokens": 6}, 5), ({"min_length": 5}, 3)]
)
def test_greedy_with_a_prefix_equals_transformers(theirs_least: dict[str, int], ours: int):
    """``</s> <s> …``: transformers forces the ``<s>`` that is put in place here, and
    counts both in ``min_length``, as DCASE 2022's baseline gives it.
    """
    model, memory = model_of(30, ending=4.0)
    model.prefix = END
    theirs = transformers_of(model).generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory.values),
        attention_mask=memory.mask.long(),
        num_beams=1,
        do_sample=False,
        decoder_start_token_id=END,
        forced_bos_token_id=BEGIN,
        **theirs_least,
        max_new_tokens=31,
        suppress_tokens=[PAD],
    )
    found = search(model.stepper(), memory, method="greedy", min_length=ours, max_length=30)
    assert int(found.lengths.min()) == ours + 2 < found.lengths.max()
    # at the limit generate cuts, and this search ends
    assert torch.equal(found.tokens[:, 0, :-1], theirs[:, 1 : found.tokens.shape[-1]])


class Table:
    """A stepper whose next token depends on the last alone: its sequences' odds are known."""

    vocabulary, begin, end, pad = 6, BEGIN, END, PAD

    def __init__(self, log_probs: Tensor) -> None:
        self.log_probs = log_probs  # (V, V)

    def start(self, memory: Memory, beams: int, max_length: int) -> int:
        return 0

    def step(self, tokens: Tensor, state: int) -> tuple[Tensor, int]:
        return self.log_probs[tokens], state

    def reorder(self, state: int, parents: Tensor) -> int:
        return state

    def select(self, state: int, clips: Tensor) -> int:
        return state


def table_odds(probs: np.ndarray, temperature: float, top_p: float) -> dict[tuple[int, ...], float]:
    """The exact odds of every caption of at most two words."""

    def choices(last: int) -> dict[int, float]:
        weights = {t: probs[last, t] ** (1 / temperature) for t in (2, 3, 4, 5)}
        total = sum(weights.values())
        kept: dict[int, float] = {}
        for token in sorted(weights, key=lambda t: -weights[t]):
            if sum(kept.values()) < top_p:
                kept[token] = weights[token] / total
        total = sum(kept.values())
        return {token: odds / total for token, odds in kept.items()}

    odds = {}
    for first, p in choices(BEGIN).items():
        if first == END:
            odds[(END,)] = p
            continue
        for second, q in choices(first).items():
            odds[(first, END) if second == END else (first, second, END)] = p * q
    return odds


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.7, 1.0), (1.0, 0.7), (1.4, 0.8)]
)
def test_samples_follow_the_exact_probabilities(temperature: float, top_p: float):
    table = torch.randn(6, 6).log_softmax(-1)
    memory = Memory(torch.zeros(4, 1, 1), torch.ones(4, 1, dtype=torch.bool))
    found = search(
        Table(table),
        memory,
        method="sample",
        beams=5000,
        max_length=2,
        temperature=temperature,
        top_p=top_p,
        seed=3,
    )
    counts = Counter(tuple(row[1:]) for clip in range(4) for row in rows(found, clip))
    odds = table_odds(table.exp().double().numpy(), temperature, top_p)
    assert set(counts) == set(odds)  # top-p: nothing outside the nucleus, and all of it
    expected = [odds[row] * 20000 for row in odds]
    assert chisquare([counts[row] for row in odds], expected).pvalue > 1e-3


def test_seeds_give_different_draws():
    model, memory = model_of(12)
    draws = [
        search(model.stepper(), memory, method="sample", max_length=8, seed=seed).tokens.tolist()
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_uniforms_are_uniform_and_independent():
    values = torch.stack([uniforms(5, torch.arange(200), 10, step) for step in range(20)])
    assert values.min() >= 0 and values.max() < 1
    counts = torch.histc(values.flatten().float(), 50, 0, 1)
    assert chisquare(counts.numpy()).pvalue > 1e-3
    for dim in range(3):  # neighbouring steps, clips and hypotheses
        one, two = (
            values.narrow(dim, 0, values.shape[dim] - 1),
            values.narrow(dim, 1, values.shape[dim] - 1),
        )
        counts = torch.histc((one * 8).floor().flatten() * 8 + (two * 8).floor().flatten(), 64)
        assert chisquare(counts.numpy()).pvalue > 1e-3


def test_draw_never_takes_a_blocked_token():
    log_probs = torch.tensor([-math.inf, -1.0, -math.inf, -0.5, -math.inf]).expand(1, 4, 5)
    edges = torch.tensor([[0.0, 2.0**-52, 0.5, 1 - 2.0**-52]], dtype=torch.float64)
    for top_p in (1.0, 0.9):
        assert set(draw(log_probs, edges, top_p=top_p)[0].tolist()) == {1, 3}


def test_settings_are_passed_by_name():
    model, memory = model_of(12, ending=3.0)
    settings = DecodingConfig(
        beams=2, min_length=1, max_length=9, no_repeat_ngram=2, length_penalty=0.5
    )
    one = decode(model.stepper(), memory, settings)
    two = search(
        model.stepper(),
        memory,
        beams=2,
        min_length=1,
        max_length=9,
        no_repeat_ngram=2,
        length_penalty=0.5,
    )
    assert torch.equal(one.tokens, two.tokens)
    assert not one.log_probs.requires_grad


@pytest.mark.parametrize(
    "wrong",
    [
        {"beams": 0},
        {"min_length": 5, "max_length": 4},
        {"max_length": 0},
        {"temperature": 0.0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"no_repeat_ngram": -1},
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any]):
    model, memory = model_of(12)
    with pytest.raises(EarwitnessError, match=next(iter(wrong))):
        search(model.stepper(), memory, **wrong)

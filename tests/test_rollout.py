"""Samples and the greedy caption of one search; the loss that is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from pipeline.config.bart import BartConfig
from pipeline.decoding.rollout import Rollout, rollout
from pipeline.decoding.search import search
from pipeline.losses.policy import advantages, self_critical_loss, token_log_probs
from pipeline.models.decoders.bart import Bart
from pipeline.tensors import Memory, TokenIds
from tests.markov import Markov, caption_log_prob, every, features

TOKENS = TokenIds(size=6, begin=2, pad=0, end=1)  # three words
LONGEST = 3


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def markov() -> Markov:
    return Markov(TOKENS).eval()


def roll(model: Any, memory: Memory, clips: list[int], **settings: Any) -> Rollout:
    settings = {"samples": 4, "greedy": True, "max_length": LONGEST, **settings}
    return rollout(model.stepper(), memory, clips=torch.tensor(clips), **settings)


@torch.no_grad()
def bart() -> tuple[Bart, Memory]:
    settings = BartConfig(
        pretrained=None, encoder_layers=1, decoder_layers=2, heads=2, width=16, feed_forward=32
    )
    model = Bart.from_settings(settings, TokenIds(12, begin=0, pad=1, end=2)).eval()
    for weight in model.parameters():
        weight.add_(torch.randn_like(weight), alpha=0.15)
    mask = torch.arange(5) < torch.tensor([5, 3, 5, 1, 4, 2, 5, 2, 1])[:, None]
    return model, model.encode(torch.randn(9, 5, 16), mask)


def test_the_last_row_is_the_greedy_caption() -> None:
    model, memory = bart()
    drawn = roll(model, memory, list(range(9)), max_length=7)
    greedy = search(model.stepper(), memory, method="greedy", max_length=7)
    length = greedy.tokens.shape[2]
    assert torch.equal(drawn.tokens[:, -1, :length], greedy.tokens[:, 0])
    assert (drawn.tokens[:, -1, length:] == model.tokens.pad).all()
    assert len({tuple(row) for row in drawn.tokens[:, :-1].flatten(0, 1).tolist()}) > 15


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_samples_follow_the_distribution(temperature: float) -> None:
    """Against the probability of each of the 40 captions, written out."""
    model, count = markov(), 4000
    rows = every(TOKENS, LONGEST)
    drawn = roll(
        model,
        model.encode(features([1])),
        [1],
        samples=count,
        greedy=False,
        temperature=temperature,
    )
    found = [[t for t in row if t != TOKENS.pad] for row in drawn.tokens[0].tolist()]
    with torch.no_grad():
        log_probs = [caption_log_prob(model, 1, row, LONGEST, temperature) for row in rows]
    expected = torch.stack(log_probs).double().exp().numpy()
    assert expected.sum() == pytest.approx(1, abs=1e-5)
    observed = np.array([found.count(row) for row in rows])
    assert observed.sum() == count
    rare = expected * count < 5
    pool = [np.append(values[~rare], values[rare].sum()) for values in (observed, expected)]
    assert chisquare(pool[0], pool[1] / pool[1].sum() * count).pvalue > 0.01


def test_draws_depend_on_seed_step_and_clip_alone() -> None:
    model, memory = bart()
    clips = [40, 3, 17, 8, 29, 5, 11, 2, 90]
    whole = roll(model, memory, clips, max_length=7, seed=4, step=9)
    torch.manual_seed(99)  # no generator has a part
    order = [6, 2, 7]
    part = Memory(memory.values[order], memory.mask[order])
    some = roll(model, part, [clips[i] for i in order], max_length=7, seed=4, step=9)
    assert all(torch.equal(a[order], b) for a, b in zip(whole, some, strict=True))
    for other in ({"seed": 5, "step": 9}, {"seed": 4, "step": 10}):
        again = roll(model, memory, clips, max_length=7, **other)
        assert not torch.equal(again.tokens, whole.tokens)
        assert torch.equal(again.tokens[:, -1], whole.tokens[:, -1])


def test_a_forced_end_is_not_the_models() -> None:
    model = markov()
    drawn = roll(model, model.encode(features([0, 1, 2])), [0, 1, 2], samples=60)
    assert drawn.tokens.shape == (3, 61, LONGEST + 2)
    broken = 0
    for row, chosen, ended in zip(
        drawn.tokens.flatten(0, 1).tolist(),
        drawn.chosen.flatten(0, 1).tolist(),
        drawn.ended.flatten().tolist(),
        strict=True,
    ):
        words = row.index(TOKENS.end) - 1
        assert ended == (words < LONGEST)
        assert chosen == [at <= min(words, LONGEST - 1) for at in range(LONGEST + 1)]
        broken += not ended
    assert 0 < broken < 183


def test_token_log_probs_equal_a_loop() -> None:
    logits = torch.randn(5, 4, TOKENS.size)
    tokens = torch.tensor([[3, 4, 1, 0], [5, 1, 0, 0], [1, 0, 0, 0], [3, 3, 3, 1], [4, 5, 4, 3]])
    found = token_log_probs(logits, tokens, begin=TOKENS.begin, pad=TOKENS.pad, temperature=0.7)
    for row in range(5):
        for at in range(4):
            token = int(tokens[row, at])
            kept = {i: float(logits[row, at, i]) / 0.7 for i in (1, 3, 4, 5)}
            total = np.log(sum(np.exp(value) for value in kept.values()))
            expected = 0.0 if token == TOKENS.pad else kept[token] - total
            assert float(found[row, at]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("baseline", ["greedy", "others"])
def test_the_loss_equals_a_loop(baseline: Any) -> None:
    log_probs, rewards = -torch.rand(3, 4, 5), torch.rand(3, 5 if baseline == "greedy" else 4)
    chosen = torch.arange(5) < torch.randint(1, 6, (3, 4, 1))
    total, tokens = 0.0, 0
    for clip in range(3):
        for sample in range(4):
            others = [float(rewards[clip, i]) for i in range(4) if i != sample]
            base = float(rewards[clip, 4]) if baseline == "greedy" else sum(others) / 3
            for at in range(5):
                if chosen[clip, sample, at]:
                    gain = float(rewards[clip, sample]) - base
                    total -= gain * float(log_probs[clip, sample, at])
                    tokens += 1
    loss = self_critical_loss(log_probs, chosen, advantages(rewards, baseline))
    assert float(loss) == pytest.approx(total / tokens, abs=1e-6)


def gradients(model: Markov, drawn: Rollout, advantage: Tensor) -> list[Tensor]:
    """Of the loss on one clip's samples."""
    memory = model.encode(features([1]))
    rows = drawn.tokens[0]
    alike = Memory(*(part.expand(len(rows), *part.shape[1:]) for part in memory))
    log_probs = token_log_probs(
        model.logits(alike, rows[:, :-1]), rows[:, 1:], begin=TOKENS.begin, pad=TOKENS.pad
    )
    loss = self_critical_loss(log_probs[None], drawn.chosen, advantage)
    return list(torch.autograd.grad(loss, list(model.parameters())))


def test_its_gradient_is_that_of_the_expected_reward() -> None:
    """Over many samples, against all 40 captions enumerated; forced ends included."""
    model, rows = markov(), every(TOKENS, LONGEST)
    worth = {
        tuple(row): float(value) for row, value in zip(rows, torch.rand(len(rows)), strict=True)
    }
    expected = sum(
        caption_log_prob(model, 1, row, LONGEST).exp() * worth[tuple(row)] for row in rows
    )
    exact = torch.autograd.grad(expected, list(model.parameters()))
    drawn = roll(model, model.encode(features([1])), [1], samples=200_000)
    found = [tuple(t for t in row if t != TOKENS.pad) for row in drawn.tokens[0].tolist()]
    rewards = torch.tensor([[worth[row] for row in found]])
    samples = Rollout(*(part[:, :-1] for part in drawn))
    # the loss is a mean over tokens; the expectation is over captions
    scale = float(samples.chosen.sum()) / 200_000
    for estimate, truth in zip(
        gradients(model, samples, advantages(rewards, "greedy")), exact, strict=True
    ):
        assert torch.allclose(-estimate * scale, truth, atol=4e-3)
    assert max(float(part.abs().max()) for part in exact) > 0.04


def test_no_advantage_no_gradient_and_none_into_rewards() -> None:
    model = markov()
    drawn = roll(model, model.encode(features([1])), [1], greedy=False)
    assert all(not grad.any() for grad in gradients(model, drawn, torch.zeros(1, 4)))
    rewards = torch.rand(1, 4, requires_grad=True)
    log_probs = torch.randn(1, 4, LONGEST + 1, requires_grad=True)
    self_critical_loss(log_probs, drawn.chosen, advantages(rewards, "others")).backward()
    assert rewards.grad is None and log_probs.grad is not None and log_probs.grad.any()
    assert not log_probs.grad[~drawn.chosen].any()

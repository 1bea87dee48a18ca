"""Scheduled sampling against its step-by-step definition, and the schedule itself."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F

from pipeline.config.seq2seq import Seq2SeqConfig
from pipeline.config.training import TrainingConfig
from pipeline.models.captioners.seq2seq import DECODERS, Seq2Seq, gold_steps
from pipeline.tensors import Batch, Memory, Padded, TokenIds
from tests.plans import build, captioner_plan
from tests.reference_seq2seq import REFERENCES

B, T, L, W, V = 6, 9, 14, 12, 17
TOKENS = TokenIds(size=V, begin=1, pad=0, end=2)
LENGTHS = torch.tensor([9, 3, 1, 5, 9, 7])
STEPS = 40
each_kind = pytest.mark.parametrize(
    ("kind", "layers"), [("transformer", 2), ("gru", 1), ("gru", 2)]
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def model_of(kind: Any, layers: int, teacher_forcing: float, dropout: float = 0.0) -> Seq2Seq:
    """In training mode and double precision."""
    settings = Seq2SeqConfig(
        feature_dropout=dropout,
        encoder_layers=2,
        encoder_width=W // 2,
        encoder_dropout=dropout,
        decoder=kind,
        decoder_layers=layers,
        width=16,
        heads=2,
        feed_forward=24,
        dropout=dropout,
    )
    training = TrainingConfig(teacher_forcing=teacher_forcing, label_smoothing=0.1)
    entry = {"architecture": "seq2seq", "features": ("panns",)}
    plan = captioner_plan(entry, {"seq2seq": settings}, training, seed=7)
    model = build(plan, [W], TOKENS).double()
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


def batch_of() -> Batch:
    """Captions of different lengths, padded after their ends."""
    tokens = torch.randint(3, V, (B, L + 1))
    tokens[:, 0] = TOKENS.begin
    lengths = torch.tensor([L + 1, 4, 9, L + 1, 12, 2])[:, None]
    place = torch.arange(L + 1)
    tokens = tokens.masked_fill(place == lengths - 1, TOKENS.end)
    tokens = tokens.masked_fill(place >= lengths, TOKENS.pad)
    features = Padded(torch.randn(B, T, W, dtype=torch.float64), LENGTHS)
    return Batch((features,), tokens, None, torch.arange(B))


def encoded_of(model: Seq2Seq, batch: Batch) -> Memory:
    (features,) = batch.features
    return Memory(model.encoder(features), features.mask)


@each_kind
@pytest.mark.parametrize("step", [0, 11, 25, STEPS - 1])
def test_loss_and_gradients_equal_the_definition(kind: str, layers: int, step: int):
    """In the first step all is gold; in the last, at a probability of 0.3, little is."""
    model = model_of(kind, layers, teacher_forcing=0.3)
    reference = REFERENCES[kind](model.decoder)
    batch = batch_of()
    model.before_step(step, STEPS)
    loss = model.loss(batch).total
    loss.backward()
    found = {name: weight.grad for name, weight in model.decoder.named_parameters()}
    encoder = [weight.grad for weight in model.encoder.parameters()]

    gold = gold_steps(L, 1 - 0.7 * step / (STEPS - 1), 7, step)
    assert all(gold) == (step == 0)
    model.zero_grad()
    logits = reference.scheduled(encoded_of(model, batch), batch.tokens[:, :-1], gold)
    expected = F.cross_entropy(
        logits.flatten(0, 1).float(),
        batch.tokens[:, 1:].flatten(),
        ignore_index=TOKENS.pad,
        label_smoothing=0.1,
    )
    expected.backward()
    torch.testing.assert_close(loss, expected)
    renamed = reference.renamed(found)
    for name, weight in reference.named_parameters():
        torch.testing.assert_close(renamed[name], weight.grad, rtol=1e-5, atol=1e-7)
    for gradient, weight in zip(encoder, model.encoder.parameters(), strict=True):
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-5, atol=1e-7)


@each_kind
@pytest.mark.parametrize("share", [0.0, 0.5, 0.85])
@torch.no_grad()
def test_logits_equal_the_definition(kind: str, layers: int, share: float):
    """Any draws, the first step's and runs of own steps among them; the logits are not gold's."""
    model = model_of(kind, layers, teacher_forcing=0.5)
    reference = REFERENCES[kind](model.decoder)
    batch = batch_of()
    encoded, tokens = encoded_of(model, batch), batch.tokens[:, :-1]
    memory = Memory(model.decoder.read(encoded.values), encoded.mask)
    forced = model.logits(memory, tokens)
    for _ in range(4):
        gold = (torch.rand(L) < share).tolist()
        gold[3] = False
        found = model.decoder.scheduled(memory, tokens, gold)
        expected = reference.scheduled(encoded, tokens, gold)
        torch.testing.assert_close(found, expected)
        assert not torch.allclose(found, forced)


@each_kind
@torch.no_grad()
def test_own_words_are_those_of_the_pass_with_gradients(kind: str, layers: int):
    """With dropout on too: what is read next is the argmax of the very logits of the loss."""
    model = model_of(kind, layers, teacher_forcing=0.5, dropout=0.3).train()
    batch = batch_of()
    memory = model.encode(batch.features)
    read: list[Tensor] = []
    model.decoder.embedding.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    logits = model.decoder.scheduled(memory, batch.tokens[:, :-1], [False] * L)
    own = torch.cat(read[1:], 1)  # the first are the caption's, all at once
    picked = logits.argmax(-1)[:, :-1]
    assert torch.equal(own[:, -(L - 1) :], picked)
    assert not torch.equal(picked, batch.tokens[:, 1:-1])


@pytest.mark.parametrize("kind", DECODERS)
def test_all_gold_is_teacher_forcing(kind: str):
    """Probability 1 at the first of many steps: the very loss of a plan without sampling."""
    sampled, forced = (model_of(kind, 1, teacher_forcing=last) for last in (0.7, 1.0))
    forced.load_state_dict(sampled.state_dict())
    batch = batch_of()
    sampled.before_step(0, 1000)
    forced.before_step(999, 1000)
    torch.testing.assert_close(sampled.loss(batch).total, forced.loss(batch).total)


def test_probability_falls_linearly():
    model = model_of("gru", 1, teacher_forcing=0.7)
    probabilities = []
    for step in range(11):
        model.before_step(step, 11)
        probabilities.append(model.teacher_forcing)
    expected = [1, 0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79, 0.76, 0.73, 0.7]
    assert probabilities == pytest.approx(expected)
    model.before_step(0, 1)
    assert model.teacher_forcing == 1


def test_draws_depend_on_seed_and_step_alone():
    """Not on torch's own generator, so a resumed run draws the same; and they are independent."""
    draws = [gold_steps(20, 0.7, 1, step) for step in range(500)]
    state = torch.get_rng_state()
    assert draws == [gold_steps(20, 0.7, 1, step) for step in range(500)]
    assert torch.equal(torch.get_rng_state(), state)
    assert draws != [gold_steps(20, 0.7, 2, step) for step in range(500)]
    flat = [draw for row in draws for draw in row]
    assert binomtest(sum(flat), len(flat), 0.7).pvalue > 0.01
    pairs = sum(one and two for one, two in itertools.pairwise(flat))
    assert binomtest(pairs, len(flat) - 1, 0.49).pvalue > 0.001
    assert len({tuple(row) for row in draws}) > 480


@pytest.mark.parametrize("kind", DECODERS)
def test_compiled_training_is_not_compiled_anew_at_each_step(kind: str):
    """As training does on CUDA; the draws, which differ in each step, are not traced."""
    model = model_of(kind, 1, teacher_forcing=0.3)
    torch._dynamo.reset()
    counted = CompileCounter()
    step_loss = torch.compile(model.loss, backend=counted, dynamic=True)
    frames = []
    for step in range(6):
        batch = batch_of()
        batch = batch._replace(tokens=batch.tokens[:, : L - step % 3])
        model.before_step(step, 6)
        losses = step_loss(batch).total, model.loss(batch).total
        torch.testing.assert_close(*losses)
        frames.append(counted.frame_count)
    assert frames[0] > 0 and frames[1:] == [frames[0]] * 5

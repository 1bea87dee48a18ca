"""SJTU's captioner against torch's own modules, exhaustive search and memorised captions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.config.plans import CaptionerPlan
from pipeline.config.seq2seq import Seq2SeqConfig
from pipeline.config.training import TrainingConfig
from pipeline.decoding.search import search
from pipeline.errors import EarwitnessError
from pipeline.models.captioners.seq2seq import DECODERS, Seq2Seq
from pipeline.models.layers.bigru import BiGru
from pipeline.tensors import Batch, Memory, Padded, TokenIds, pad_tokens
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import Vocabulary
from tests.learning import by_heart, learn
from tests.plans import build, captioner_plan, rebuild
from tests.reference_seq2seq import REFERENCES

B, T, W, V, WIDTH = 5, 7, 12, 11, 16
PAD, BEGIN, END = 0, 1, 2
TOKENS = TokenIds(size=V, begin=BEGIN, pad=PAD, end=END)
LENGTHS = torch.tensor([7, 3, 1, 5, 7])
KINDS = [("transformer", 1), ("transformer", 2), ("gru", 1), ("gru", 2)]
each_kind = pytest.mark.parametrize(("kind", "layers"), KINDS)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def plan_of(kind: Any, layers: int, **training: Any) -> CaptionerPlan:
    settings = Seq2SeqConfig(
        encoder_layers=2,
        encoder_width=W // 2,
        decoder=kind,
        decoder_layers=layers,
        width=WIDTH,
        heads=2,
        feed_forward=24,
    )
    return plan_with(settings, **training)


def plan_with(settings: Seq2SeqConfig, **training: Any) -> CaptionerPlan:
    entry = {"architecture": "seq2seq", "features": ("panns",)}
    return captioner_plan(entry, {"seq2seq": settings}, TrainingConfig(**training))


def model_of(kind: str, layers: int, vocabulary: int = V) -> Seq2Seq:
    """In double precision and without dropout; sure enough of itself for words to differ."""
    tokens = TOKENS._replace(size=vocabulary)
    model = build(plan_of(kind, layers), [W], tokens).double().eval()
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


def encoded_of(lengths: Tensor = LENGTHS) -> Memory:
    """An encoder output of width W; its padding must have no effect."""
    values = torch.randn(len(lengths), T, W, dtype=torch.float64)
    mask = torch.arange(T) < lengths[:, None]
    return Memory(values.masked_fill(~mask[..., None], 1e3), mask)


def memory_of(model: Seq2Seq, encoded: Memory) -> Memory:
    return Memory(model.decoder.read(encoded.values), encoded.mask)


def some_tokens(length: int) -> Tensor:
    """(B, length), begin first; padding here and there, as a model may write it itself."""
    tokens = torch.randint(0, V, (B, length))
    tokens[:, 0] = BEGIN
    return tokens


def test_bigru_equals_packed_sequences():
    """Outputs of valid frames and all gradients, with any values in the padding."""
    ours = BiGru(W, 6, layers=3, dropout=0.5).double().eval()
    theirs = nn.GRU(W, 6, num_layers=3, bidirectional=True, batch_first=True).double()

    def renamed(named: dict[str, Tensor]) -> dict[str, Tensor]:
        both = {}
        for name, value in named.items():
            direction, layer, weight = name.split(".")
            end = "_reverse" if direction == "backwards" else ""
            both[f"{weight.removesuffix('0')}{layer}{end}"] = value
        return both

    theirs.load_state_dict(renamed(ours.state_dict()))
    values, mask = encoded_of()
    packed = nn.utils.rnn.pack_padded_sequence(values, LENGTHS, True, enforce_sorted=False)
    expected = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
    found = ours(Padded(values, LENGTHS))
    torch.testing.assert_close(found[mask], expected[mask])
    weights = torch.randn_like(expected[mask])
    (found[mask] * weights).sum().backward()
    (expected[mask] * weights).sum().backward()
    gradients = renamed({name: weight.grad for name, weight in ours.named_parameters()})
    for name, weight in theirs.named_parameters():
        torch.testing.assert_close(gradients[name], weight.grad)


def test_bigru_drops_between_layers():
    """As nn.GRU: half of the last layer's inputs, none of its outputs nor of the first's inputs."""
    model = BiGru(W, 6, layers=2, dropout=0.5)
    seen: list[Tensor] = []
    for layer in (*model.forwards, *model.backwards):
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    padded = Padded(torch.randn(64, T, W), torch.full((64,), T))
    output = model(padded)
    first, turned, second, again = seen
    assert bool((first != 0).all()) and bool((output != 0).all())
    assert 0.45 < float((second == 0).float().mean()) < 0.55
    assert torch.equal(turned.flip(1), first) and torch.equal(again.flip(1), second)


@pytest.mark.parametrize(
    ("settings", "millions"),
    [
        (Seq2SeqConfig(), 10.4),
        (Seq2SeqConfig(decoder_layers=4), 12.5),
        (Seq2SeqConfig(decoder="gru", decoder_layers=1, width=512), 14.6),
    ],
)
def test_parameters_are_table_1s(settings: Seq2SeqConfig, millions: float):
    """With CNN14's 2,048 features and Clotho's 4,368 words."""
    with torch.device("meta"):
        model = build(plan_with(settings), [2048], TOKENS._replace(size=4368))
    assert round(sum(weight.numel() for weight in model.parameters()) / 1e6, 1) == millions


@each_kind
def test_logits_equal_the_published_form(kind: str, layers: int):
    """Values, and gradients of every weight and of the memory."""
    ours = model_of(kind, layers).decoder
    theirs = REFERENCES[kind](ours).eval()
    values, mask = encoded_of()
    tokens = some_tokens(9)
    weights = torch.randn(B, 9, V, dtype=torch.float64)
    gradients = []
    found = []
    for logits in (
        lambda memory: ours.logits(Memory(ours.read(memory.values), memory.mask), tokens),
        lambda memory: theirs(memory, tokens),
    ):
        leaf = values.clone().requires_grad_()
        found.append(logits(Memory(leaf, mask)))
        (found[-1] * weights).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    renamed = theirs.renamed({name: weight.grad for name, weight in ours.named_parameters()})
    for name, weight in theirs.named_parameters():
        torch.testing.assert_close(renamed[name], weight.grad)


@each_kind
@torch.no_grad()
def test_cached_steps_equal_uncached_logits(kind: str, layers: int):
    """Through reorderings and dropped clips; in training mode too, without dropout."""
    model = model_of(kind, layers).train()
    encoded = encoded_of()
    beams, steps = 3, 6
    memory = memory_of(model.eval(), encoded)
    stepper = model.train().stepper()
    state = stepper.start(memory, beams, steps)
    rows = torch.full((B, beams, 1), BEGIN)
    clips = torch.arange(B)
    for step in range(steps):
        log_probs, state = stepper.step(rows[:, :, -1], state)
        model.eval()
        for beam in range(beams):
            here = Memory(memory.values[clips], memory.mask[clips])
            expected = model.logits(here, rows[:, beam])[:, -1].log_softmax(-1)
            torch.testing.assert_close(log_probs[:, beam], expected.float())
        model.train()
        parents = torch.randint(beams, (len(clips), beams))
        state = stepper.reorder(state, parents)
        rows = rows.gather(1, parents[..., None].expand_as(rows))
        rows = torch.cat([rows, torch.randint(END, V, (len(clips), beams, 1))], -1)
        if step in (1, 3):
            kept = torch.tensor([0, 2, 3] if step == 1 else [2, 0])
            state = stepper.select(state, kept)
            rows, clips = rows[kept], clips[kept]


@each_kind
@torch.no_grad()
def test_beam_equals_exhaustive_search(kind: str, layers: int):
    """Three words, at most three in a caption: 40 captions in all, and a beam of 40."""
    model = model_of(kind, layers, vocabulary=6)
    memory = memory_of(model, encoded_of())
    every = [
        (BEGIN, *words, END)
        for length in range(4)
        for words in itertools.product((3, 4, 5), repeat=length)
    ]
    found = search(model.stepper(), memory, beams=40, max_length=3, exact_stop=True)
    for clip in range(B):
        one = Memory(memory.values[clip : clip + 1], memory.mask[clip : clip + 1])
        scores = {}
        for row in every:
            log_probs = model.logits(one, torch.tensor([row]))[0].log_softmax(-1)
            scores[row] = float(log_probs[range(len(row) - 1), row[1:]].mean())
        best = sorted(every, key=lambda row: -scores[row])
        rows = zip(found.tokens[clip].tolist(), found.lengths[clip].tolist(), strict=True)
        assert [tuple(row[:length]) for row, length in rows] == best
        expected = torch.tensor([scores[row] for row in best])
        torch.testing.assert_close(found.scores[clip], expected)


@each_kind
def test_a_clip_does_not_depend_on_its_batch(kind: str, layers: int):
    model = model_of(kind, layers)
    features = encoded_of().values
    together = model.encode([Padded(features, LENGTHS)])
    tokens = some_tokens(6)
    logits = model.logits(together, tokens)
    for clip, length in enumerate(LENGTHS.tolist()):
        alone = Padded(features[clip : clip + 1, :length], LENGTHS[clip : clip + 1])
        one = model.logits(model.encode([alone]), tokens[clip : clip + 1])
        torch.testing.assert_close(logits[clip], one[0])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", DECODERS)
def test_it_memorises_eight_clips(kind: Any, seed: int):
    """Eight clips that differ in sound alone; greedy decoding reproduces their captions."""
    torch.manual_seed(seed)
    captions = [
        "a dog barks and barks again",
        "a dog barks while rain falls on a roof",
        "rain falls",
        "a car passes by on a wet road and a dog barks far away",
        "birds sing in the wind",
        "wind blows and birds sing",
        "a man speaks as a car passes by",
        "someone walks on gravel",
    ]
    vocabulary: Tokenizer = Vocabulary.train(captions, 1)
    settings = Seq2SeqConfig(
        encoder_layers=1, encoder_width=24, decoder=kind, width=48, heads=2, feed_forward=96,
        decoder_layers=1, dropout=0.1, encoder_dropout=0.0, feature_dropout=0.1,
    )  # fmt: skip
    plan = plan_with(settings, teacher_forcing=0.7, label_smoothing=0.0)
    tokens = TokenIds(vocabulary.size, vocabulary.begin, vocabulary.pad, vocabulary.end)
    model = build(plan, [W], tokens)
    features = (Padded(torch.randn(len(captions), T, W), torch.tensor([7, 3, 5, 4, 7, 6, 2, 7])),)
    rows, _ = pad_tokens(vocabulary.encode(captions, plan.model.tokens.longest), vocabulary.pad)
    batch = Batch(features, rows, None, torch.arange(len(captions)))
    enough = by_heart(batch, vocabulary.pad)
    learn(model, batch, until=lambda losses: losses.total < enough, learning_rate=5e-3)
    found = search(model.stepper(), model.encode(features), method="greedy", max_length=20)
    assert vocabulary.decode(found.tokens[:, 0]) == captions


@each_kind
def test_it_is_rebuilt_from_its_configuration(kind: str, layers: int):
    model = model_of(kind, layers)
    again = rebuild(plan_of(kind, layers), [W], model).double().eval()
    again.load_state_dict(model.inference_state_dict())
    features = [Padded(encoded_of().values, LENGTHS)]
    tokens = some_tokens(5)
    assert torch.equal(
        model.logits(model.encode(features), tokens), again.logits(again.encode(features), tokens)
    )


def test_captions_longer_than_its_positions_are_refused():
    model = model_of("transformer", 1)
    with pytest.raises(EarwitnessError, match="lower max_length"):
        model.stepper().start(memory_of(model, encoded_of()), 1, 10_000)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="width 18 is not a multiple of heads 4"):
        Seq2SeqConfig(width=18)
    assert Seq2SeqConfig(width=18, decoder="gru").width == 18  # which has no heads
    two = {"architecture": "seq2seq", "features": ("panns", "htsat")}
    with pytest.raises(ValueError, match=r"(?s)features.* at most 1 item"):
        captioner_plan(two, {}, TrainingConfig())
    with pytest.raises(EarwitnessError, match=r"2 stored features, but the plan names 1 \(panns\)"):
        build(plan_of("gru", 1), [W, W], TOKENS)


@torch.no_grad()
@pytest.mark.parametrize("kind", DECODERS)
def test_bfloat16_is_near_float32(kind: str):
    """Autocast reaches every product of training and decoding, and the recurrence stays whole."""
    model = model_of(kind, 2).float()
    features = [Padded(encoded_of().values.float(), LENGTHS)]
    tokens = some_tokens(6)
    exact = model.logits(model.encode(features), tokens).log_softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        memory = model.encode(features)
        rough = model.logits(memory, tokens).float().log_softmax(-1)
        stepper = model.stepper()
        state = stepper.start(memory, 1, 6)
        stepped = []
        for step in range(6):
            log_probs, state = stepper.step(tokens[:, step : step + 1], state)
            stepped.append(log_probs)
    written = tokens != PAD
    shown = written.cumprod(1).bool()  # a stepper's search writes no padding
    difference = (torch.cat(stepped, 1) - exact)[shown]
    assert 0 < float((rough - exact).abs().mean()) < 0.05 * math.log(V)
    assert 0 < float(difference.abs().mean()) < 0.05 * math.log(V)

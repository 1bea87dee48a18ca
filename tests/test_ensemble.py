"""Several captioners in one search: against exhaustive search, their definitions and themselves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from tiny_captioners import CAPTIONS, make_captioner
from torch import Tensor

from pipeline.config.bart import BartConfig
from pipeline.config.evaluation import DecodingConfig
from pipeline.config.hardware import HardwareConfig
from pipeline.config.seq2seq import Seq2SeqConfig
from pipeline.decoding.ensemble import (
    Ensemble,
    EnsembleStepper,
    combine_log_probs,
)
from pipeline.decoding.predict import bank_batches, predict
from pipeline.decoding.predictions import _batches, caption_clips
from pipeline.decoding.search import Hypotheses, search
from pipeline.errors import EarwitnessError
from pipeline.features.bank import open_banks
from pipeline.features.store import FeatureStore, Header, write_store
from pipeline.models.captioners.seq2seq import DECODERS
from pipeline.models.decoders.bart import Bart
from pipeline.tensors import Memory, Padded, TokenIds
from pipeline.text.vocabulary import Vocabulary
from pipeline.trained.captioner import TrainedCaptioner

B, D = 6, 16
BEGIN, PAD, END = 0, 1, 2
COMBINE = ("log_probs", "probs")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Member(NamedTuple):
    """A decoder of any kind, and the memory that it reads of B clips."""

    model: Any
    memory: Memory


@torch.no_grad()
def member(kind: str, vocabulary: int, frames: int = 5, seed: int = 0) -> Member:
    """A random one, sure enough of itself for hypotheses and members to differ."""
    torch.manual_seed(seed)
    mask = torch.arange(frames) < torch.tensor([5, 3, 5, 1, 4, 2])[:, None]
    values = torch.randn(B, frames, D)
    if kind == "bart":
        settings = BartConfig(
            pretrained=None, encoder_layers=1, decoder_layers=2, heads=2, width=D, feed_forward=32
        )
        bart = Bart.from_settings(settings, TokenIds(vocabulary, begin=0, pad=1, end=2)).eval()
        for weight in bart.parameters():
            if weight.ndim > 1:
                weight.mul_((D / 768) ** 0.5)  # what scales with the width would end every caption
            weight.add_(torch.randn_like(weight), alpha=0.4)
        bart.final_logits_bias[END] = 2.0
        return Member(bart, bart.encode(values, mask))
    settings = Seq2SeqConfig(width=D, heads=2, feed_forward=32, decoder_layers=2)
    tokens = TokenIds(vocabulary, begin=BEGIN, pad=PAD, end=END)
    decoder = DECODERS[kind](D, settings, tokens).eval()
    decoder.classifier.weight.mul_(3)
    return Member(decoder, Memory(decoder.read(values), mask))


def together(members: Sequence[Member], combine: Any, **settings: Any) -> Hypotheses:
    stepper = EnsembleStepper([each.model.stepper() for each in members], combine)
    return search(stepper, tuple(each.memory for each in members), **settings)


def clip_of(memory: Memory, clip: int) -> Memory:
    return Memory(memory.values[clip : clip + 1], memory.mask[clip : clip + 1])


def rows(found: Hypotheses, clip: int) -> list[tuple[int, ...]]:
    lengths = found.lengths[clip].tolist()
    return [tuple(r[:n]) for r, n in zip(found.tokens[clip].tolist(), lengths, strict=True)]


def plain_mean(log_probs: Sequence[Tensor], combine: str) -> Tensor:
    """What the settings mean, in double precision."""
    stacked = torch.stack([each.double() for each in log_probs])
    return stacked.mean(0) if combine == "log_probs" else stacked.exp().mean(0).log()


@torch.no_grad()
def plain_log_prob(
    members: Sequence[Member], clip: int, row: tuple[int, ...], combine: str
) -> float:
    """Of one caption with its begin and its end, from each member's logits of all of it."""
    each = [
        one.model.logits(clip_of(one.memory, clip), torch.tensor([row[:-1]]))[0].log_softmax(-1)
        for one in members
    ]
    steps = plain_mean(each, combine)
    return float(steps[range(len(row) - 1), row[1:]].sum())


@pytest.mark.parametrize("combine", COMBINE)
def test_the_mean_is_its_definition(combine: Any) -> None:
    """A token that one member rules out, and one that all do: probability 0, and no NaN."""
    log_probs = list(torch.randn(3, 4, 2, 9).mul(8).log_softmax(-1).unbind())
    log_probs[0][..., 3] = -math.inf
    for each in log_probs:
        each[..., 5] = -math.inf
    expected = plain_mean(log_probs, combine)
    found = combine_log_probs([each.clone() for each in log_probs], combine)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert (found[..., 5] == -math.inf).all()
    assert (found[..., 3] == -math.inf).all() == (combine == "log_probs")
    rare = [torch.tensor([-150.0, -0.0]), torch.tensor([-152.0, -0.0])]  # below float32's smallest
    expected = plain_mean(rare, combine)
    found = combine_log_probs([each.clone() for each in rare], combine)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-5)
    if combine == "probs":  # a distribution where its members are
        whole = combine_log_probs(
            list(torch.randn(5, 4, 9).mul(20).log_softmax(-1).unbind()), combine
        )
        torch.testing.assert_close(whole.exp().sum(-1), torch.ones(4))


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize("kind", ["bart", "transformer", "gru"])
@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
def test_an_ensemble_of_one_is_its_model_to_the_bit(combine: Any, kind: str, method: Any) -> None:
    one = member(kind, 12)
    settings: dict[str, Any] = {"method": method, "max_length": 9, "length_penalty": 0.0}
    log_probs = torch.randn(2, 3, 12).log_softmax(-1)
    assert combine_log_probs([log_probs], combine) is log_probs  # no pass over them
    alone = search(one.model.stepper(), one.memory, **settings)
    found = together([one], combine, **settings)
    assert torch.equal(found.tokens, alone.tokens)
    assert torch.equal(found.log_probs, alone.log_probs)
    assert torch.equal(found.scores, alone.scores)


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize(
    "kinds",
    [("transformer", "transformer"), ("transformer", "gru"), ("bart", "gru", "transformer")],
)
def test_a_wide_beam_equals_exhaustive_search(combine: Any, kinds: tuple[str, ...]) -> None:
    """Three words, at most three in a caption: 40 captions in all, and a beam of 40."""
    words, longest = (3, 4, 5), 3
    members = [member(kind, 6, 5 + seed, seed) for seed, kind in enumerate(kinds)]
    every = [
        (BEGIN, *inner, END)
        for length in range(longest + 1)
        for inner in itertools.product(words, repeat=length)
    ]
    found = together(members, combine, beams=len(every), max_length=longest, exact_stop=True)
    for clip in range(B):
        scores = {
            row: plain_log_prob(members, clip, row, combine) / (len(row) - 1) for row in every
        }
        best = sorted(scores, key=lambda row: -scores[row])
        assert rows(found, clip) == best
        expected = torch.tensor([scores[row] for row in best])
        torch.testing.assert_close(found.scores[clip], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("combine", COMBINE)
def test_a_narrow_beam_scores_by_the_mean_and_finds_better_than_greedy(combine: Any) -> None:
    members = [member("transformer", 30, 5, 1), member("gru", 30, 6, 2), member("bart", 30, 7, 3)]
    found = together(members, combine, beams=4, max_length=10)
    for clip in range(B):
        for beam, row in enumerate(rows(found, clip)):
            expected = plain_log_prob(members, clip, row, combine)
            assert float(found.log_probs[clip, beam]) == pytest.approx(expected, abs=1e-3)
    greedy = together(members, combine, method="greedy", max_length=10)
    wide = together(members, combine, beams=20, max_length=10)
    assert (wide.scores[:, 0] >= greedy.scores[:, 0] - 1e-5).all()
    singles = [together([each], combine, beams=4, max_length=10).tokens[:, 0] for each in members]
    ours = {tuple(row) for row in found.tokens[:, 0].tolist()}
    assert all(ours != {tuple(row) for row in single.tolist()} for single in singles)


@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
def test_a_clip_does_not_depend_on_its_batch(method: Any) -> None:
    members = [member("transformer", 12, 5, 1), member("gru", 12, 6, 2)]
    clips = torch.tensor([7, 30, 2, 11, 5, 90])
    settings: dict[str, Any] = {"method": method, "max_length": 10, "no_repeat_ngram": 1}
    found = together(members, "probs", clips=clips, **settings)
    assert len(found.lengths.unique()) > 1  # some left the batch before others
    for clip in range(B):
        one = [Member(each.model, clip_of(each.memory, clip)) for each in members]
        alone = together(one, "probs", clips=clips[clip : clip + 1], **settings)
        assert rows(alone, 0) == rows(found, clip)
        torch.testing.assert_close(alone.log_probs[0], found.log_probs[clip])


# Captioners with their features.

WIDTHS = {"one": 10, "two": 7}


def captioner_of(
    name: str, feature: str, decoder: str = "transformer", **more: Any
) -> TrainedCaptioner:
    return make_captioner(name, feature, WIDTHS[feature], decoder, **more)


@pytest.fixture
def stores(tmp_path: Path) -> dict[str, FeatureStore]:
    names = [f"clip{number}" for number in range(11)]
    random = np.random.default_rng(1)
    for name, width in WIDTHS.items():
        lengths = random.integers(1, 8, len(names))
        values = random.normal(size=(int(lengths.sum()), width)).astype(np.float16)
        header = Header(name, {}, "0", 0.1)
        write_store(tmp_path / f"{name}.h5", header, names, lengths, width, [values])
    return {name: FeatureStore.open(tmp_path / f"{name}.h5") for name in WIDTHS}


def teacher_forced(
    captioner: TrainedCaptioner, store: FeatureStore, clip: str, text: str
) -> Tensor:
    """(L,) log-probabilities of each word of a caption and its end."""
    values = torch.from_numpy(np.array(store.entry(store.ids.index(clip)))).float()[None]
    ids = torch.tensor(captioner.tokenizer.encode([text], 99))
    with torch.no_grad():
        memory = captioner.model.encode([Padded(values, torch.tensor([values.shape[1]]))])
        log_probs = captioner.model.logits(memory, ids[:, :-1]).log_softmax(-1)
    return log_probs.gather(-1, ids[:, 1:, None])[0, :, 0]


@pytest.mark.parametrize("method", ["beam", "greedy", "sample"])
@pytest.mark.parametrize("combine", COMBINE)
def test_an_ensemble_of_one_gives_its_captions(
    stores: dict[str, FeatureStore], combine: Any, method: Any
) -> None:
    decoding = DecodingConfig(method=method, batch=4, max_length=8)
    captioner, clips = captioner_of("gru", "two", "gru"), stores["two"].ids[2:]
    banks = open_banks([stores["two"]], clips, "cpu")
    settings = decoding.model_dump(exclude={"batch"})
    alone: list[list[tuple[str, float]]] = []
    for batch in bank_batches(banks, 4):
        numbers = torch.arange(len(alone), len(alone) + len(batch[0].values))
        with torch.no_grad():
            memory = captioner.model.encode(batch)
        own = search(captioner.model.stepper(), memory, seed=3, clips=numbers, **settings)
        for tokens, log_probs in zip(own.tokens, own.log_probs.tolist(), strict=True):
            alone.append(list(zip(captioner.tokenizer.decode(tokens), log_probs, strict=True)))
    one = Ensemble((captioner,), combine)
    found = caption_clips(one, [[stores["two"]]], clips, decoding, "one", seed=3)
    assert [[(c.text, c.log_prob), *c.candidates] for c in found] == alone
    assert len({caption.text for caption in found}) > 3


@pytest.mark.parametrize("combine", COMBINE)
def test_captioners_of_other_kinds_seeds_and_features_write_together(
    stores: dict[str, FeatureStore], combine: Any
) -> None:
    """Each candidate's log-probability, from every member's logits of the whole caption."""
    members = (
        captioner_of("transformer", "one", seed=1),
        captioner_of("gru", "two", "gru", seed=2),
        captioner_of("another", "one", seed=3),
    )
    own = [[stores[feature] for feature in each.plan.features] for each in members]
    clips, decoding = stores["one"].ids[::-1], DecodingConfig(batch=4, max_length=8)
    ensemble = Ensemble(members, combine)
    found = caption_clips(ensemble, own, clips, decoding, "three")
    compared = 0
    for clip, caption in zip(clips, found, strict=True):
        for text, log_prob in ((caption.text, caption.log_prob), *caption.candidates):
            if "<unk>" in text:
                continue
            each = [
                teacher_forced(one, read[0], clip, text)
                for one, read in zip(members, own, strict=True)
            ]
            expected = float(plain_mean(each, combine).sum())
            assert log_prob == pytest.approx(expected, abs=1e-3)
            compared += 1
    assert compared > 20
    batch = next(_batches(own, clips, torch.device("cpu"), 4))
    assert batch[0][0] is batch[2][0] is not batch[1][0]  # held and gathered once


def test_different_vocabularies_are_refused() -> None:
    first, second = (
        captioner_of("first", "one"),
        captioner_of("second", "two", "gru"),
    )
    other = captioner_of("other", "one", captions=[*CAPTIONS, "a cat purrs"])
    Ensemble((first, second))
    with pytest.raises(EarwitnessError) as caught:
        Ensemble((first, second, other), "probs")
    assert str(caught.value).startswith(
        "ensemble: captioners first and other write in different vocabularies; train both"
    )
    assert "\n" not in str(caught.value)
    wider = first.model.tokens._replace(size=99)  # a pretrained model's unused rows
    stretched = SimpleNamespace(
        plan=SimpleNamespace(name="wide"), tokenizer=first.tokenizer,
        model=SimpleNamespace(tokens=wider),
    )  # fmt: skip
    with pytest.raises(EarwitnessError, match="captioners first and wide write in different"):
        Ensemble((first, stretched))  # type: ignore[arg-type]


def test_features_of_another_width_are_refused(stores: dict[str, FeatureStore]) -> None:
    members = (
        captioner_of("first", "one"),
        captioner_of("second", "two", "gru"),
    )
    with pytest.raises(EarwitnessError, match=r"one.h5: 10 wide, but captioner second was trained"):
        caption_clips(
            Ensemble(members),
            [[stores["one"]], [stores["one"]]],
            ["clip1"],
            DecodingConfig(),
            "both",
        )


class Watched:
    """A model and its stepper, which say in what precision they were run."""

    vocabulary, begin, pad, end = TOKENS = TokenIds(6, BEGIN, PAD, END)
    tokens = TOKENS

    def __init__(self) -> None:
        self.seen: set[tuple[str, bool]] = set()

    def see(self, what: str) -> None:
        self.seen.add((what, torch.is_autocast_enabled("cpu")))

    def parameters(self) -> Any:
        return iter([torch.zeros(1)])

    def stepper(self) -> Watched:
        return self

    def encode(self, features: Sequence[Padded]) -> Memory:
        self.see("encode")
        return Memory(features[0].values, features[0].mask)

    def start(self, memory: Memory, beams: int, max_length: int) -> int:
        self.see("start")
        return 0

    def step(self, tokens: Tensor, state: int) -> tuple[Tensor, int]:
        self.see("step")
        return torch.randn(*tokens.shape, 6).log_softmax(-1), state

    def reorder(self, state: int, parents: Tensor) -> int:
        return state

    select = reorder


@pytest.mark.parametrize(
    "precisions", [("bfloat16", "float32"), ("float32", "bfloat16", "auto"), ("bfloat16",) * 2]
)
def test_each_member_runs_in_its_own_precision(precisions: tuple[str, ...]) -> None:
    vocabulary = Vocabulary(("<pad>", "<start>", "<end>", "<unk>", "dog", "barks"))
    models = [Watched() for _ in precisions]
    members: Any = tuple(
        SimpleNamespace(
            plan=SimpleNamespace(name="x", hardware=HardwareConfig(precision=precision)),
            model=model, tokenizer=vocabulary,
        )
        for precision, model in zip(precisions, models, strict=True)
    )  # fmt: skip
    features = (Padded(torch.zeros(2, 3, 4), torch.tensor([3, 1])),)
    list(predict(Ensemble(members), [[features] * len(members)], DecodingConfig()))
    for precision, model in zip(precisions, models, strict=True):
        mixed = precision == "bfloat16"  # auto: on CUDA alone
        assert model.seen == {(what, mixed) for what in ("encode", "start", "step")}

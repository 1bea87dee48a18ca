"""Of every captioner, and of every loss of a retriever: padding is in none, a clip is the same in a
batch and alone, and cached steps are the uncached logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import pytest
import torch
from test_edtc import make_plan as edtc_plan
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.config.captioners import CaptionerModel
from pipeline.config.crnn import CrnnConfig
from pipeline.config.encoders import LogmelEncoderConfig
from pipeline.config.hardware import HardwareConfig
from pipeline.config.plans import CaptionerPlan
from pipeline.config.retrievers import (
    BiEncoderConfig,
    CrnnTowerConfig,
    PannsTowerConfig,
    TextTowerConfig,
    TowerSetupConfig,
)
from pipeline.config.training import TrainingConfig
from pipeline.models.biencoder import BiEncoder, Pairs, StoredMeans
from pipeline.models.captioners.base import Captioner
from pipeline.models.towers.registry import build_sound_tower
from pipeline.models.towers.text import build_text_tower, text_network
from pipeline.models.towers.text_tokens import make_tokens
from pipeline.tensors import Batch, Memory, Padded, TokenIds, Tokens
from tests.plans import build, captioner_plan

TOKENS = TokenIds(40, begin=0, pad=1, end=2)
FRAMES, WORDS, CLIPS = (33, 9, 20, 4), (3, 7, 1, 5), torch.tensor([4, 7, 4, 9])
LOGMEL = LogmelEncoderConfig(
    module="logmel", sample_rate=16000, n_fft=512, hop=320, mels=16, fmax=8000.0
)
BART: dict[str, Any] = {
    "pretrained": None, "vocabulary": 64, "encoder_layers": 1, "decoder_layers": 2, "heads": 2,
    "width": 64, "feed_forward": 24, "dropout": 0.0,
}  # fmt: skip
CRNN = CrnnConfig(channels=(4, 6, 6, 6, 6), width=6, dropout=0.0)
WORDY: dict[str, Any] = {"width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0}
SEQ2SEQ: dict[str, Any] = {
    **WORDY, "encoder_layers": 1, "encoder_width": 8, "encoder_dropout": 0.0,
    "feature_dropout": 0.0,
}  # fmt: skip
PREFIX: dict[str, Any] = {
    "layers": 2, "heads": 2, "width": 16, "mapping_width": 8, "dropout": 0.0, "prefix_length": 2,
}  # fmt: skip


TOWER = PannsTowerConfig(
    module="panns", model="cnn10", channels=4, weights="scratch", input="logmel"
)


def distance(name: str) -> dict[str, Any]:
    own = {**WORDY, "encoder_layers": 1, "reconstruction": {"distance": name}}
    return {"rlssr": {**own, "spec_augment": False}}


# variant → architecture, widths of the stored sound, W of the captions' stored text, settings
KINDS: dict[str, tuple[str, tuple[int, ...], int | None, dict[str, Any]]] = {
    "edtc": ("edtc", (20, 12), 10, {"loss": "clip"}),
    "edtc infonce": ("edtc", (20, 12), 10, {"loss": "infonce"}),
    "transformer": ("seq2seq", (12,), None, {"seq2seq": SEQ2SEQ}),
    "gru": ("seq2seq", (12,), None, {"seq2seq": {**SEQ2SEQ, "decoder": "gru"}}),
    "scheduled": ("seq2seq", (12,), None, {"seq2seq": SEQ2SEQ}),
    "cmu": ("cmu", (12, 5), None, {"bart": BART, "cmu": {"memory": "mean"}}),
    "crnn": ("cmu", (12, 5), None, {"bart": BART, "cmu": {"encoder": "crnn", "crnn": CRNN}}),
    **{
        f"rlssr {own}": ("rlssr", (16,), None, distance(own))
        for own in ("l1", "l2", "cosine", "huber")
    },
    "prefix": ("prefix", (10,), 10, {"prefix": PREFIX}),
    "supervised": ("prefix", (10,), 10, {"prefix": {**PREFIX, "supervised": True}}),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def plan_of(kind: str) -> CaptionerPlan:
    architecture, widths, text, settings = KINDS[kind]
    training = TrainingConfig(teacher_forcing=0.5 if kind == "scheduled" else 1.0)
    hardware = HardwareConfig(device="cpu", compile="off")
    names = tuple(f"sound{width}" for width in widths)
    if architecture == "edtc":
        small = edtc_plan(names, twin=settings["loss"], dropout=0.0)
        return small.model_copy(update={"training": training, "hardware": hardware})
    entry: dict[str, Any] = {"architecture": architecture}
    entry |= {"tower": "cnn10"} if architecture == "rlssr" else {"features": names}
    entry |= {"text": "words"} if text else {}
    tower = TowerSetupConfig(settings=TOWER, input=LOGMEL, weights=None)
    return captioner_plan(entry, settings, training, tower=tower, hardware=hardware)


def make(kind: str) -> Captioner:
    """In evaluation mode, with weights large enough for its outputs to matter."""
    _, widths, text, _ = KINDS[kind]
    model = build(plan_of(kind), widths, TOKENS, text).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    model.before_step(3, 5)
    assert isinstance(model, Captioner)
    return model


def padded(rows: Sequence[Tensor], extra: int = 0) -> Padded:
    """(T, W) of each, with a loud constant behind, for ``extra`` frames more than the longest."""
    values = pad_sequence(list(rows), batch_first=True, padding_value=7.0)
    values = torch.nn.functional.pad(values, (0, 0, 0, extra), value=-9.0)
    return Padded(values, torch.tensor([len(row) for row in rows]))


def parts_of(kind: str) -> list[tuple[tuple[Tensor, ...], Tensor, Tensor | None]]:
    """Of each clip: E × (T, W) sound, (L,) tokens, and (L', W') text."""
    architecture, widths, text, _ = KINDS[kind]
    draw = torch.Generator().manual_seed(1)
    pooled = architecture == "prefix"
    clips = []
    for frames, words in zip(FRAMES, WORDS, strict=True):
        sound = tuple(
            torch.randn(max(2, frames // (1 + n)), width, generator=draw)
            for n, width in enumerate(widths)
        )
        own = torch.randint(3, TOKENS.size, (words,), generator=draw).tolist()
        tokens = torch.tensor([TOKENS.begin, *own, TOKENS.end])
        rows = 1 if pooled else words
        clips.append((sound, tokens, torch.randn(rows, text, generator=draw) if text else None))
    return clips


def batch_of(
    clips: Sequence[tuple[tuple[Tensor, ...], Tensor, Tensor | None]],
    extra: int = 0,
    numbers: Tensor = CLIPS,
) -> Batch:
    sounds, tokens, texts = zip(*clips, strict=True)
    ids = pad_sequence(list(tokens), batch_first=True, padding_value=TOKENS.pad)
    return Batch(
        tuple(padded(column, extra) for column in zip(*sounds, strict=True)),
        torch.nn.functional.pad(ids, (0, extra), value=TOKENS.pad),
        None if texts[0] is None else padded(texts, extra),
        numbers,
    )


def entropy(losses: Any) -> float:
    """The cross-entropy of a captioner's losses, all that most of them have."""
    return float(getattr(losses, "cross_entropy", losses.total))


def test_every_captioner_is_here() -> None:
    models = get_args(get_args(CaptionerModel)[0])  # of the plans' union
    named = {one.model_fields["architecture"].default for one in models}
    assert {architecture for architecture, *_ in KINDS.values()} == named


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padding_is_in_no_captioners_loss(kind: str) -> None:
    """More of it, of sound, tokens and text, changes nothing; the entropy is the clips' alone."""
    model, clips = make(kind), parts_of(kind)
    near, far = (model.loss(batch_of(clips, extra)) for extra in (0, 6))
    for name, value in near._asdict().items():
        torch.testing.assert_close(getattr(far, name), value, atol=1e-5, rtol=1e-5)
    alone = [
        entropy(model.loss(batch_of([clip], 0, CLIPS[row : row + 1])))
        for row, clip in enumerate(clips)
    ]
    counts = [words + 1 for words in WORDS]
    mean = sum(n * own for n, own in zip(counts, alone, strict=True)) / sum(counts)
    assert entropy(near) == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_comes_from_padding_in_training(kind: str) -> None:
    model = make(kind).train()
    batch = batch_of(parts_of(kind), 3)
    read = [*batch.features, *([batch.text] if batch.text is not None else [])]
    for own in read:
        own.values.requires_grad_()
    model.loss(batch).total.backward()
    grads = [(own, own.values.grad) for own in read if own.values.grad is not None]
    assert grads
    for own, grad in grads:
        assert bool((grad[~own.mask] == 0).all()) and bool(grad[own.mask].any())


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_clip_is_the_same_in_a_batch_and_alone(kind: str) -> None:
    model, clips = make(kind), parts_of(kind)
    tokens = torch.randint(3, TOKENS.size, (len(clips), 5))
    together = model.logits(model.encode(batch_of(clips, 4).features), tokens)
    for row, clip in enumerate(clips):
        memory = model.encode(batch_of([clip], 0, CLIPS[:1]).features)
        alone = model.logits(memory, tokens[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_cached_steps_are_the_uncached_logits(kind: str) -> None:
    """Of every hypothesis, through reorderings and clips that leave."""
    model, beams = make(kind), 3
    memory = model.encode(batch_of(parts_of(kind)).features)
    stepper = model.stepper()
    state = stepper.start(memory, beams, 7)
    rows = torch.full((len(CLIPS), beams, 1), TOKENS.begin)
    for step in range(6):
        found, state = stepper.step(rows[:, :, -1], state)
        repeated = Memory(*(values.repeat_interleave(beams, 0) for values in memory))
        expected = model.logits(repeated, rows.flatten(0, 1))[:, -1].log_softmax(-1)
        torch.testing.assert_close(found.flatten(0, 1), expected, atol=1e-4, rtol=1e-4)
        parents = torch.randint(beams, rows.shape[:2])
        state = stepper.reorder(state, parents)
        rows = rows.gather(1, parents[..., None].expand_as(rows))
        rows = torch.cat([rows, torch.randint(3, TOKENS.size, (*rows.shape[:2], 1))], -1)
        if step in (1, 3):
            kept = torch.tensor([3, 0, 2] if step == 1 else [2, 0])
            state, rows = stepper.select(state, kept), rows[kept]
            memory = Memory(*(values[kept] for values in memory))


def retriever(loss: str, towers: bool) -> BiEncoder:
    """Stored means, or a CRNN with features beside and a BERT; both are projected."""
    own = "random" if loss == "infonce" else "hardest"  # random draws would differ
    settings = BiEncoderConfig(loss=loss, width=8, similarity="dot", negatives=own)  # type: ignore[arg-type]
    if not towers:
        return BiEncoder(StoredMeans([64, 6]), StoredMeans([10]), settings).eval()
    tower = CrnnTowerConfig(
        module="crnn", input="logmel", beside=("events",), channels=CRNN.channels, width=6
    )
    text = TextTowerConfig(
        weights="scratch", pooling="mean", vocabulary=64, layers=1, heads=2, width=16,
        feed_forward=24,
    )  # fmt: skip
    captions = ["a dog barks", "rain falls on a roof"]
    words = build_text_tower(text, text_network(text, make_tokens(text, captions)))
    sound = build_sound_tower(tower, LOGMEL, None, widths=(64, 6))
    return BiEncoder(sound, words, settings).eval()


@pytest.mark.parametrize("towers", [False, True])
@pytest.mark.parametrize("loss", ["infonce", "triplet", "exp_distance"])
def test_padding_is_in_no_retrievers_loss(loss: str, towers: bool) -> None:
    """Of sound, of further features, and of text, stored or tokens."""
    model = retriever(loss, towers)
    draw = torch.Generator().manual_seed(2)
    sound = [[torch.randn(n, 64, generator=draw), torch.randn(n // 2 + 1, 6, generator=draw)]
             for n in FRAMES]  # fmt: skip
    words = [torch.randint(3, 12, (n + 1,), generator=draw) for n in WORDS]
    stored = [torch.randn(n, 10, generator=draw) for n in WORDS]

    def pairs(extra: int) -> Pairs:
        ids = pad_sequence(words, batch_first=True, padding_value=5)
        tokens = Tokens(
            torch.nn.functional.pad(ids, (0, extra), value=6),
            torch.tensor([len(row) for row in words]),
        )
        features = tuple(padded(column, extra) for column in zip(*sound, strict=True))
        return Pairs(features, tokens if towers else (padded(stored, extra),), CLIPS)

    near, far = model.loss(pairs(0)), model.loss(pairs(7))
    for found, expected in zip(far[:3], near[:3], strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert float(near.total.detach()) > 0

    batch = pairs(3)
    read = [each for each in (*batch.sound, *batch.text) if isinstance(each, Padded)]
    for own in read:
        own.values.requires_grad_()
    model.train().loss(batch).total.backward()
    for own in read:
        grad = own.values.grad
        assert grad is not None and bool((grad[~own.mask] == 0).all())
        assert bool(grad[own.mask].any())

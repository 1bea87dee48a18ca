"""RLSSR's captioner against its equations written out clip by clip, and torch's own modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config.encoders import LogmelEncoderConfig, PannsEncoderConfig, SpecAugmentConfig
from pipeline.config.plans import CaptionerPlan
from pipeline.config.retrievers import PannsTowerConfig, TowerSetupConfig
from pipeline.config.rlssr import RlssrConfig
from pipeline.config.training import TrainingConfig
from pipeline.decoding.search import search
from pipeline.encoders.registry import tagging_model
from pipeline.encoders.spectrogram import spec_augment
from pipeline.encoders.tagging import save_tagging
from pipeline.errors import EarwitnessError
from pipeline.models.captioners.rlssr import POSITIONS, Rlssr, RlssrEncoder
from pipeline.tensors import Batch, Padded, TokenIds, pad_tokens
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import Vocabulary
from pipeline.weights import Weights
from tests.learning import by_heart, learn
from tests.plans import build, captioner_plan, rebuild

B, T, MELS, V, WIDTH = 4, 70, 16, 11, 16
PAD, BEGIN, END = 0, 1, 2
TOKENS = TokenIds(size=V, begin=BEGIN, pad=PAD, end=END)
LENGTHS = torch.tensor([70, 33, 5, 48])  # the third is shorter than a frame of the CNN
INPUT = LogmelEncoderConfig(
    module="logmel", sample_rate=16000, n_fft=512, hop=320, mels=MELS, fmax=8000
)
TOWER = PannsTowerConfig(
    module="panns", model="cnn10", channels=4, weights="scratch", input="logmel"
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def plan_of(
    tower: PannsTowerConfig = TOWER,
    *,
    input: LogmelEncoderConfig = INPUT,
    weights: str | None = None,
    training: TrainingConfig | None = None,
    **sections: Any,
) -> CaptionerPlan:
    """``weights``: of the tower. ``sections``: without SpecAugment if they do not name it."""
    own = {"width": WIDTH, "heads": 2, "feed_forward": 24, "spec_augment": False}
    if "spec_augment" in sections:
        own["spec_augment"] = True
    sections["rlssr"] = {**own, **sections.get("rlssr", {})}
    return captioner_plan(
        {"architecture": "rlssr", "tower": "cnn10"},
        sections,
        training or TrainingConfig(label_smoothing=0.0),
        tower=TowerSetupConfig(settings=tower, input=input, weights=weights),
    )


def model_of(**changed: Any) -> Rlssr:
    """Without dropout; sure enough of itself for words to differ."""
    model = build(plan_of(**changed), [MELS], TOKENS).eval()
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


def sound_of(lengths: Tensor = LENGTHS) -> Padded:
    """Decibels; the padding must have no effect."""
    values = 10 * torch.randn(len(lengths), T, MELS) - 40
    past = torch.arange(T) >= lengths[:, None]
    return Padded(values.masked_fill(past[..., None], 1e3), lengths)


def batch_of() -> Batch:
    rows = [[BEGIN, *torch.randint(3, V, (n,)).tolist(), END] for n in (4, 1, 6, 2)]
    tokens, _ = pad_tokens(rows, PAD)
    return Batch((sound_of(),), tokens, None, torch.arange(B))


def alone(sound: Padded, clip: int) -> Padded:
    length = sound.lengths[clip : clip + 1]
    return Padded(sound.values[clip : clip + 1, : int(length)], length)


@pytest.mark.parametrize("layers", [0, 2])
@torch.no_grad()
def test_the_encoder_is_torchs(layers: int) -> None:
    """Linear, sinusoidal positions, nn.TransformerEncoder; without layers the linear alone."""
    settings = RlssrConfig(width=WIDTH, heads=2, feed_forward=24, encoder_layers=layers)
    ours = RlssrEncoder(12, settings).eval()
    frames = Padded(torch.randn(3, 9, 12), torch.tensor([9, 1, 4]))
    expected = ours.project(frames.values)
    if layers:
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 24, batch_first=True)
        theirs = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()
        theirs.layers.load_state_dict(ours.layers.state_dict())
        place = torch.arange(9)[:, None] / 10000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
        codes = torch.zeros(9, WIDTH)
        codes[:, 0::2], codes[:, 1::2] = place.sin(), place.cos()
        expected = theirs(expected + codes, src_key_padding_mask=~frames.mask)
    found = ours(frames)
    assert torch.equal(found.mask, frames.mask)
    torch.testing.assert_close(found.values[frames.mask], expected[frames.mask])
    if layers:
        long = ours._positions(torch.zeros(1, POSITIONS + 3, WIDTH))
        torch.testing.assert_close(long[:POSITIONS], ours.positions)


@pytest.mark.parametrize("layers", [0, 2])
@torch.no_grad()
def test_cached_steps_equal_the_whole_pass(layers: int) -> None:
    model = model_of(rlssr={"encoder_layers": layers})
    memory = model.encode([sound_of()])
    tokens = torch.cat([torch.full((B, 1), BEGIN), torch.randint(3, V, (B, 7))], 1)
    stepper = model.stepper()
    state, stepped = stepper.start(memory, 1, 8), []
    for step in range(8):
        log_probs, state = stepper.step(tokens[:, step : step + 1], state)
        stepped.append(log_probs)
    expected = model.logits(memory, tokens).log_softmax(-1)
    torch.testing.assert_close(torch.cat(stepped, 1), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layers", [0, 2])
@torch.no_grad()
def test_a_clip_does_not_depend_on_its_batch(layers: int) -> None:
    model = model_of(rlssr={"encoder_layers": layers})
    sound, tokens = sound_of(), torch.randint(3, V, (B, 6))
    together = model.logits(model.encode([sound]), tokens)
    for clip in range(B):
        one = model.logits(model.encode([alone(sound, clip)]), tokens[clip : clip + 1])
        torch.testing.assert_close(together[clip], one[0], atol=1e-4, rtol=1e-4)


def defined(model: Rlssr, batch: Batch, place: int) -> tuple[Tensor, Tensor]:
    """L_ce and both sides' mean absolute difference, a clip at a time, without padding."""
    entropies, texts, sounds = [], [], []
    assert model.reconstruct is not None
    for clip in range(B):
        tokens = batch.tokens[clip]
        tokens = tokens[tokens != PAD][None]
        sound = alone(batch.features[0], clip)
        states = model.decoder.states(model.encode([sound]), tokens[:, :-1])
        log_probs = model.decoder.classifier(states[-1])[0].log_softmax(-1)
        entropies += [-log_probs[at, word] for at, word in enumerate(tokens[0, 1:])]
        texts.append(torch.stack([model.reconstruct(row) for row in states[place][0]]).mean(0))
        maps, _ = model.tower.maps(sound)
        sounds.append((maps[0].mean(-1) + maps[0].max(-1).values).mean(-1))
    apart = (torch.stack(texts) - torch.stack(sounds)).abs().mean()
    return torch.stack(entropies).mean(), apart


@pytest.mark.parametrize(("place", "index"), [(None, 1), (2, 1), (1, 0)])
def test_the_loss_is_equation_2(place: int | None, index: int) -> None:
    module = {"distance": "l1", "weight": 0.7, "place": place}
    model = model_of(rlssr={"cross_entropy_weight": 1.3, "reconstruction": module})
    batch = batch_of()
    losses = model.loss(batch)
    entropy, apart = defined(model, batch, index)
    torch.testing.assert_close(losses.cross_entropy, entropy, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(losses.reconstruction, apart, atol=1e-4, rtol=1e-4)
    total = 1.3 * entropy + 0.7 * apart
    torch.testing.assert_close(losses.total, total, atol=1e-4, rtol=1e-4)


def test_without_a_distance_there_is_no_module() -> None:
    none = model_of(rlssr={"reconstruction": {"distance": "none"}})
    losses = none.loss(batch_of())
    assert losses.reconstruction is None and losses.total is not None
    assert torch.equal(losses.total, losses.cross_entropy)
    extra = model_of().state_dict().keys() - none.state_dict().keys()
    assert extra == {"reconstruct.weight", "reconstruct.bias"}


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine", "huber"])
@pytest.mark.parametrize("stop", [False, True])
def test_the_gradient_of_the_distance_reaches(distance: str, stop: bool) -> None:
    """With the text fixed, into the CNN alone, or not at all; into the decoder always."""
    module = {"distance": distance, "stop_gradient": stop}
    model = model_of(rlssr={"reconstruction": module})
    batch = batch_of()
    maps, lengths = model.tower.maps(batch.features[0])
    maps = maps.detach().requires_grad_()
    states = [torch.randn(B, 7, WIDTH, requires_grad=True) for _ in range(2)]
    written = batch.tokens[:, 1:] != PAD
    model._reconstruction(states, written, maps, lengths).backward()
    assert (maps.grad is None) == stop
    last = states[-1].grad
    assert states[0].grad is None and last is not None
    assert bool((last[written] != 0).any()) and bool((last[~written] == 0).all())


def test_masks_in_training_alone_and_again_from_the_same_state() -> None:
    masks = SpecAugmentConfig(time_width=0.3, frequency_width=0.3)
    model = model_of(spec_augment=masks.model_dump())
    sound, seen = sound_of(), []
    original = model.tower.maps
    model.tower.maps = lambda stored: seen.append(stored.values) or original(stored)  # type: ignore[method-assign, func-returns-value]
    model.encode([sound])
    assert torch.equal(seen[-1], sound.values)
    model.train()
    state = torch.get_rng_state()
    for _ in range(2):
        model.encode([sound])
    torch.set_rng_state(state)
    model.encode([sound])
    first, other, again = seen[1:]
    assert torch.equal(first, again) and not torch.equal(first, other)
    torch.set_rng_state(state)
    seeds = torch.randint(2**62, (B,))
    assert len(set(seeds.tolist())) == B
    assert torch.equal(first, spec_augment(sound.values, LENGTHS, masks, seeds))


def test_starts_from_panns_weights_and_is_rebuilt_without_them(tmp_path: Path) -> None:
    settings = PannsEncoderConfig(
        module="panns", weights="tagging", model="cnn10", channels=4, sample_rate=16000, n_fft=512,
        hop=320, mels=MELS, fmax=8000,
    )  # fmt: skip
    trained = tagging_model(settings, 3)
    path = tmp_path / "model.safetensors"
    save_tagging(trained, path, settings, ["a", "b", "c"])
    tower = TOWER.model_copy(update={"weights": Weights("tagging", "panns")})
    plan = plan_of(tower, weights=str(path))
    model = build(plan, [MELS], TOKENS)
    wanted = trained.encoder.state_dict()
    found = model.tower.encoder.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())

    other = INPUT.model_copy(update={"sample_rate": 44100, "hop": 512, "fmax": 14000.0})
    plan = plan_of(tower, weights=str(path), input=other)
    with pytest.raises(EarwitnessError, match="trained with sample_rate 16000, not 44100"):
        build(plan, [MELS], TOKENS)
    tower = tower.model_copy(update={"any_front_end": True})
    plan = plan_of(tower, weights=str(path), input=other)
    model = build(plan, [MELS], TOKENS).eval()
    found = model.tower.encoder.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())

    path.unlink()
    with pytest.raises(EarwitnessError, match="dvc repro tagging"):
        build(plan, [MELS], TOKENS)
    again = rebuild(plan, [MELS], model).eval()
    again.load_state_dict(model.inference_state_dict())
    sound = [sound_of()]
    assert torch.equal(model.encode(sound).values, again.encode(sound).values)


def test_starts_from_a_checkpoint_of_another_sample_rate(tmp_path: Path) -> None:
    """PANNs' own holds mel filters and a classifier; of RLSSR's log-mel the filters are others."""
    torch.manual_seed(8)
    theirs = model_of().tower
    state = theirs.encoder.state_dict() | {
        f"fc1.{n}": v for n, v in theirs.fc1.state_dict().items()
    }
    state |= {
        "logmel_extractor.melW": torch.randn(257, MELS),
        "fc_audioset.weight": torch.randn(527, theirs.width),
    }
    path = tmp_path / "Cnn10.pth"
    torch.save({"model": state}, path)
    tower = TOWER.model_copy(update={"weights": Weights("path", str(path))})
    with pytest.raises(EarwitnessError, match="mel filters differ from those"):
        build(plan_of(tower), [MELS], TOKENS)
    tower = tower.model_copy(update={"any_front_end": True})
    ours = build(plan_of(tower), [MELS], TOKENS).tower.encoder
    for name, value in theirs.encoder.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)


def test_everything_is_trained_but_a_retrievers_pooling() -> None:
    model = model_of().train()
    model.loss(batch_of()).total.backward()
    untouched = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert untouched == {"tower.fc1.weight", "tower.fc1.bias"}
    assert untouched == {n for n, weight in model.named_parameters() if not weight.requires_grad}


@pytest.mark.parametrize("seed", range(3))
def test_it_memorises_six_clips(seed: int) -> None:
    """Six clips that differ in sound alone; greedy decoding reproduces their captions."""
    torch.manual_seed(seed)
    captions = [
        "a dog barks and barks again",
        "a dog barks while rain falls on a roof",
        "rain falls",
        "a car passes by on a wet road and a dog barks far away",
        "birds sing in the wind",
        "someone walks on gravel",
    ]
    vocabulary: Tokenizer = Vocabulary.train(captions, 1)
    sizes = {"width": 48, "heads": 2, "feed_forward": 96, "encoder_layers": 1, "dropout": 0.0}
    plan = plan_of(rlssr=sizes)
    tokens = TokenIds(vocabulary.size, vocabulary.begin, vocabulary.pad, vocabulary.end)
    model = build(plan, [MELS], tokens)
    rows, _ = pad_tokens(vocabulary.encode(captions, plan.model.tokens.longest), vocabulary.pad)
    lengths = torch.tensor([70, 33, 20, 48, 64, 50])
    features = (sound_of(lengths),)
    batch = Batch(features, rows, None, torch.arange(len(captions)))
    first, enough = model.loss(batch).reconstruction.item(), by_heart(batch, vocabulary.pad)
    losses = learn(model, batch, until=lambda losses: losses.cross_entropy < enough)
    assert losses.reconstruction.item() < first / 2
    found = search(model.stepper(), model.encode(features), method="greedy", max_length=20)
    assert vocabulary.decode(found.tokens[:, 0]) == captions


@torch.no_grad()
def test_bfloat16_is_near_float32() -> None:
    model = model_of(rlssr={"reconstruction": {"distance": "l2"}})
    batch = batch_of()
    exact = model.loss(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.loss(batch)
    assert rough.reconstruction.dtype == torch.float32
    for found, wanted in zip(rough, exact, strict=True):
        assert float(found) == pytest.approx(float(wanted), rel=0.05)
        assert float(found) != float(wanted)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"width 18 is not a multiple of heads 4"):
        model_of(rlssr={"width": 18, "heads": 4})
    with pytest.raises(EarwitnessError, match="teacher_forcing to 1"):
        model_of(training=TrainingConfig(teacher_forcing=0.7))
    with pytest.raises(EarwitnessError, match=r"stored logmel is 12 wide.*say 16 mels"):
        build(plan_of(), [12], TOKENS)
    with pytest.raises(EarwitnessError, match=r"rlssr: 9999 words.*lower max_length"):
        model = model_of()
        model.stepper().start(model.encode([sound_of()]), 1, 9999)
    with pytest.raises(ValueError, match=r"place 3 is not in 1 to decoder_layers 2"):
        RlssrConfig(reconstruction={"place": 3})
    with pytest.raises(ValueError, match="nothing to learn"):
        RlssrConfig(cross_entropy_weight=0, reconstruction={"distance": "none"})


def test_label_smoothing_is_the_trainings() -> None:
    training = TrainingConfig(label_smoothing=0.2).model_dump()
    model = model_of(training=training, rlssr={"reconstruction": {"distance": "none"}})
    batch = batch_of()
    logits = model.logits(model.encode(batch.features), batch.tokens[:, :-1])
    expected = F.cross_entropy(
        logits.flatten(0, 1), batch.tokens[:, 1:].flatten(), ignore_index=PAD, label_smoothing=0.2
    )
    torch.testing.assert_close(model.loss(batch).total, expected, atol=1e-4, rtol=1e-4)

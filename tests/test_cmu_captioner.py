"""CMU's captioner against transformers' BART, fed by hand; and through the training stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import BartForConditionalGeneration

from pipeline.config.cmu import CmuConfig
from pipeline.config.crnn import CrnnConfig
from pipeline.config.evaluation import DecodingConfig
from pipeline.config.plans import CaptionerPlan
from pipeline.config.training import TrainingConfig
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predictions import caption_clips
from pipeline.errors import EarwitnessError
from pipeline.models.captioners.cmu import Cmu, make_adapter
from pipeline.models.decoders.bart import Bart, Read
from pipeline.tensors import Batch, Memory, Padded, TokenIds
from pipeline.trained.captioner import load_captioner
from pipeline.training.cross_entropy import train_captioner
from tests.learning import until_learned
from tests.plans import build, captioner_plan
from tests.test_caption_stage import accuracy, contents, make_data, stores

B, V, D = 4, 40, 64  # the CRNN's pools ask for 64
WIDTHS, FRAMES = (10, 6), ((9, 4, 12, 5), (7, 9, 2, 5))  # of two features; one is resized
READS = get_args(Read)
VARIANTS: dict[str, dict[str, Any]] = {
    **{read: {"memory": read} for read in READS},
    "adapter": {"adapter_layers": 2, "adapter_width": 20},
    "crnn": {"encoder": "crnn"},
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def plan_of(
    cmu: dict[str, Any] | None = None,
    bart: dict[str, Any] | None = None,
    features: tuple[str, ...] = ("one", "two"),
    **training: Any,
) -> CaptionerPlan:
    small = CrnnConfig(channels=(4, 8, 8, 8, 8), width=12, dropout=0.1)
    sizes = {
        "pretrained": None, "vocabulary": 100, "encoder_layers": 3, "decoder_layers": 2,
        "heads": 4, "width": D, "feed_forward": 96, "max_tokens": 24,
    }  # fmt: skip
    return captioner_plan(
        {"architecture": "cmu", "features": features},
        {"bart": {**sizes, **(bart or {})}, "cmu": {"crnn": small, **(cmu or {})}},
        TrainingConfig(**{"label_smoothing": 0.0, **training}),
    )


def make(plan: CaptionerPlan, widths: tuple[int, ...] = WIDTHS) -> Cmu:
    """With weights large enough for its outputs to matter."""
    model = build(plan, widths, TokenIds(V, 0, 1, 2)).eval()
    assert isinstance(model, Cmu)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return model


def clips() -> list[tuple[Tensor, ...]]:
    """B clips of two features, (T, W) each."""
    lengths = zip(*FRAMES, strict=True)
    return [tuple(torch.randn(t, w) for t, w in zip(own, WIDTHS, strict=True)) for own in lengths]


def padded(clips: list[tuple[Tensor, ...]]) -> list[Padded]:
    """E × (B, T, W), with what no model may read behind each clip's end."""
    columns = zip(*clips, strict=True)
    return [
        Padded(
            nn.utils.rnn.pad_sequence(list(column), batch_first=True, padding_value=9.0),
            torch.tensor([len(one) for one in column]),
        )
        for column in columns
    ]


def resized(values: Tensor, frames: int) -> Tensor:
    """(T, W) → (frames, W) by torch's resizing."""
    rows = values.T[None]
    if len(values) >= frames:
        return F.adaptive_avg_pool1d(rows, frames)[0].T
    return F.interpolate(rows, frames, mode="linear")[0].T


def theirs(model: Cmu) -> BartForConditionalGeneration:
    """transformers' BART of the same weights."""
    config = transformers.BartConfig.from_dict(model.bart.config.to_dict())
    network = BartForConditionalGeneration(config).eval()
    if model.bart.encoder is not None:
        network.model.encoder.load_state_dict(model.bart.encoder.state_dict(), strict=False)
    network.model.decoder.load_state_dict(model.bart.decoder.state_dict())
    network.lm_head.weight = nn.Parameter(model.bart.decoder.embed_tokens.weight)
    return network


@pytest.mark.parametrize("read", READS)
@torch.no_grad()
def test_the_memory_is_of_transformers_hidden_states(read: Any) -> None:
    """A clip at a time, unpadded: resized by torch, adapted by hand, encoded by transformers."""
    model = make(plan_of({"memory": read, "adapter_layers": 2, "adapter_width": 20}))
    network = theirs(model)
    tokens = torch.randint(3, V, (B, 5))
    memory = model.encode(padded(own := clips()))
    logits = model.logits(memory, tokens)
    first, _, second = model.adapter
    for row, (one, two) in enumerate(own):
        joined = torch.cat([one, resized(two, len(one))], -1)
        inner = (joined @ first.weight.T + first.bias).clamp(min=0)
        values = inner @ second.weight.T + second.bias
        states = network.model.encoder(
            inputs_embeds=values[None], output_hidden_states=True
        ).hidden_states
        assert len(states) == 1 + 3  # the embedding, then each layer
        expected = {
            "last": states[-1],
            "mean": sum(states) / len(states),
            "last_two": (states[-1] + states[-2]) / 2,
        }[read]
        torch.testing.assert_close(
            memory.values[row, : len(one)], expected[0], atol=1e-4, rtol=1e-4
        )
        assert memory.mask[row].sum() == len(one) and bool(memory.mask[row, : len(one)].all())
        hidden = network.model.decoder(
            input_ids=tokens[row : row + 1], encoder_hidden_states=expected
        ).last_hidden_state
        torch.testing.assert_close(logits[row], network.lm_head(hidden)[0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_clip_is_the_same_in_a_batch_and_alone(variant: str) -> None:
    model = make(plan_of(VARIANTS[variant]))
    own = clips()
    tokens = torch.randint(3, V, (B, 5))
    together = model.logits(model.encode(padded(own)), tokens)
    for row, clip in enumerate(own):
        alone = model.logits(model.encode(padded([clip])), tokens[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_cached_equals_uncached(variant: str) -> None:
    model = make(plan_of(VARIANTS[variant]))
    memory, beams, steps = model.encode(padded(clips())), 2, 6
    stepper = model.stepper()
    state = stepper.start(memory, beams, steps)
    tokens = torch.zeros(B, beams, 1, dtype=torch.int64)
    repeated = Memory(*(part.repeat_interleave(beams, 0) for part in memory))
    for _ in range(steps):
        log_probs, state = stepper.step(tokens[:, :, -1], state)
        logits = model.logits(repeated, tokens.flatten(0, 1))[:, -1].log_softmax(-1)
        torch.testing.assert_close(log_probs, logits.unflatten(0, (B, beams)), atol=1e-4, rtol=0)
        parents = torch.randint(0, beams, (B, beams))
        state = stepper.reorder(state, parents)
        tokens = tokens.gather(1, parents[..., None].expand_as(tokens))
        tokens = torch.cat([tokens, torch.randint(3, V, (B, beams, 1))], -1)


def test_the_crnn_replaces_barts_encoder() -> None:
    model = make(plan_of({"encoder": "crnn"}))
    assert model.bart.encoder is None and model.crnn is not None
    with torch.no_grad():
        features = padded(clips())
        memory = model.encode(features)
        others = [resized(two, len(one)) for one, two in clips_of(features)]
        joined = [torch.cat([one, two], -1) for (one, _), two in zip(
            clips_of(features), others, strict=True)]  # fmt: skip
        for row, values in enumerate(joined):
            one = Padded(model.adapter(values)[None], torch.tensor([len(values)]))
            frames = model.crnn(one).values[0]
            assert model.bart.project is not None
            own = model.bart.project(frames)
            assert int(memory.mask[row].sum()) == len(own) == max(1, len(values) // 4)
            torch.testing.assert_close(memory.values[row, : len(own)], own, atol=1e-4, rtol=1e-4)


def clips_of(features: list[Padded]) -> list[tuple[Tensor, ...]]:
    return [
        tuple(feature.values[row, : int(feature.lengths[row])] for feature in features)
        for row in range(B)
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [(768, 128)]),
        ({"adapter_layers": 2}, [(384, 128), "ReLU", (768, 384)]),
        ({"adapter_layers": 2, "adapter_activation": "none"}, [(384, 128), (768, 384)]),
    ],
)
def test_adapters_have_the_papers_shapes(settings: dict[str, Any], expected: list[Any]) -> None:
    layers = make_adapter(128, 768, CmuConfig(**settings))
    found = [tuple(x.weight.shape) if isinstance(x, nn.Linear) else type(x).__name__
             for x in layers]  # fmt: skip
    assert found == expected


def test_padding_is_not_in_the_loss() -> None:
    """As the mean of each token's loss; the baseline counts the padding too."""
    model = make(plan_of({"memory": "last_two"}))
    rows = [torch.tensor([0, *torch.randint(3, V, (n,)).tolist(), 2]) for n in (2, 6, 1, 4)]
    tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1)
    own = clips()
    with torch.no_grad():
        loss = model.loss(Batch(tuple(padded(own)), tokens, None, torch.arange(B))).total
        losses = []
        for clip, row in zip(own, rows, strict=True):
            logits = model.logits(model.encode(padded([clip])), row[None, :-1])[0]
            losses += (-logits.log_softmax(-1)[torch.arange(len(row) - 1), row[1:]]).tolist()
    assert float(loss) == pytest.approx(sum(losses) / len(losses), rel=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant: str) -> None:
    model = make(plan_of(VARIANTS[variant]))
    model.train()
    tokens = torch.randint(3, V, (B, 6))
    model.loss(Batch(tuple(padded(clips())), tokens, None, torch.arange(B))).total.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


class Killed(BaseException):
    """Nothing in the pipeline catches it."""


@pytest.mark.parametrize("cmu", [
    {"adapter_layers": 2, "adapter_width": 48, "memory": "last_two"}, {"encoder": "crnn"},
], ids=["final", "crnn"])  # fmt: skip
def test_memorises_and_resumes(
    cmu: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of an epoch, twice; accumulating; reloaded, it captions as trained."""
    manifest = make_data(tmp_path)
    plan = plan_of(
        cmu, {"encoder_layers": 1, "decoder_layers": 1},
        **until_learned(), batch=10, accumulate=2, learning_rate=4e-3, schedule="cosine",
        warmup_epochs=0.5, validations_per_epoch=1,
    )  # fmt: skip
    sounds = stores(tmp_path)[0]

    def train(output: str) -> Path:
        train_captioner(plan, manifest, sounds, None, tmp_path / output, tmp_path / "checkpoints")
        return tmp_path / output

    whole = train("whole")
    before_step, steps = Cmu.before_step, []

    def killing(self: Cmu, step: int, total: int) -> None:
        steps.append(step)
        if len(steps) in (22, 50):
            raise Killed
        before_step(self, step, total)

    monkeypatch.setattr(Cmu, "before_step", killing)
    for _ in range(2):
        with pytest.raises(Killed):
            train("resumed")
    assert contents(train("resumed")) == contents(whole)
    assert len(steps) > len(set(steps))  # some steps were made twice

    captioner = load_captioner(whole, "cpu")
    names = [clip.clip_id for clip in manifest.split("evaluation")]
    decoding = DecodingConfig(beams=4, no_repeat_ngram=3, batch=8)
    found = caption_clips(Ensemble((captioner,)), [sounds], names, decoding, "tiny")
    captions = [caption.text for caption in found]
    assert accuracy(names, captions) >= 0.9


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    def refused(match: str, plan: CaptionerPlan, widths: tuple[int, ...] = WIDTHS) -> None:
        with pytest.raises(EarwitnessError, match=match) as caught:
            make(plan, widths)
        assert "\n" not in str(caught.value)

    refused("1 stored features, but the plan names 2", plan_of(), (10,))
    refused("raise bart.encoder_layers", plan_of({"memory": "mean"}, {"encoder_layers": 0}))
    refused("bart.pretrained: null", plan_of({"encoder": "crnn"}, {"pretrained": str(tmp_path)}))
    refused("64 values a frame", plan_of({"encoder": "crnn"}, {"width": 32}))
    with pytest.raises(ValueError, match="memory: mean is of BART's encoder"):
        CmuConfig(encoder="crnn", memory="mean")
    model = make(plan_of(features=("one",)), (10,))
    long = Padded(torch.zeros(1, 1100, 10), torch.tensor([1100]))
    with pytest.raises(EarwitnessError, match=r"1100 frames.*fewer frames a second"):
        model.encode([long])


def test_pretrained_reads_the_same_states(tmp_path: Path) -> None:
    """Of a folder in transformers' form, with ``</s>`` before each row as BART was trained."""
    config = transformers.BartConfig(
        vocab_size=V, d_model=D, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, init_std=0.3,
    )  # fmt: skip
    network = BartForConditionalGeneration(config).eval()
    network.save_pretrained(tmp_path)
    model = make_pretrained(tmp_path)
    values = torch.randn(1, 6, WIDTHS[0])
    tokens = torch.randint(3, V, (1, 5))
    with torch.no_grad():
        states = network.model.encoder(
            inputs_embeds=model.adapter(values), output_hidden_states=True
        ).hidden_states
        shifted = torch.cat([torch.tensor([[2]]), tokens], 1)
        mean = (states[-1] + states[-2]) / 2
        expected = network(encoder_outputs=(mean,), decoder_input_ids=shifted).logits[:, 1:]
        memory = model.encode([Padded(values, torch.tensor([6]))])
        torch.testing.assert_close(model.logits(memory, tokens), expected, atol=1e-4, rtol=1e-4)


def make_pretrained(folder: Path) -> Cmu:
    plan = plan_of({"memory": "last_two"}, {"pretrained": str(folder)}, ("one",))
    model = build(plan, WIDTHS[:1], TokenIds(V, 0, 1, 2)).eval()
    assert isinstance(model, Cmu) and isinstance(model.bart, Bart)
    return model

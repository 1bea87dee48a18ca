"""BART against transformers' on the same weights, and its cache against no cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BartForConditionalGeneration, BartModel

from pipeline.config.bart import BartConfig
from pipeline.errors import EarwitnessError
from pipeline.models.decoders.bart import Bart
from pipeline.tensors import Memory, TokenIds

B, T, L, V, D = 5, 7, 6, 40, 32
TOKENS = TokenIds(V, begin=0, pad=1, end=2)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def settings(**changes: object) -> BartConfig:
    small = {"encoder_layers": 2, "decoder_layers": 2, "heads": 4, "width": D, "feed_forward": 64}
    return BartConfig(pretrained=None, **{**small, **changes})


def scratch(**changes: object) -> Bart:
    """A model from scratch whose weights are large enough for its outputs to matter."""
    model = Bart.from_settings(settings(**changes), TOKENS).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.15)
    return model


@pytest.fixture
def theirs(tmp_path: Path) -> BartForConditionalGeneration:
    """transformers' BART with ``</s>`` as its start, as facebook/bart-base has."""
    config = transformers.BartConfig(
        vocab_size=V,
        d_model=D,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=48,
        init_std=0.3,
        max_position_embeddings=64,
    )
    model = BartForConditionalGeneration(config).eval()
    model.final_logits_bias.normal_()
    return model


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Features (B, T, D), their mask (B, T), and token rows (B, L) that begin with ``<s>``."""
    lengths = torch.tensor([T, 3, T, 1, 5])
    tokens = torch.randint(3, V, (B, L))
    tokens[:, 0] = 0
    return torch.randn(B, T, D), torch.arange(T) < lengths[:, None], tokens


@torch.no_grad()
def test_logits_equal_transformers(theirs: BartForConditionalGeneration, tmp_path: Path):
    theirs.save_pretrained(tmp_path)
    ours = Bart.from_pretrained(str(tmp_path)).eval()
    values, mask, tokens = inputs()
    shifted = torch.cat((torch.full((B, 1), 2), tokens), 1)  # </s> <s> …
    expected = theirs(
        inputs_embeds=values, attention_mask=mask.long(), decoder_input_ids=shifted
    ).logits[:, 1:]
    torch.testing.assert_close(ours.logits(ours.encode(values, mask), tokens), expected)
    assert (ours.prefix, *ours.tokens[1:]) == (2, 0, 1, 2)


@torch.no_grad()
def test_a_checkpoint_without_the_output_layer_is_the_same(
    theirs: BartForConditionalGeneration, tmp_path: Path
):
    """facebook/bart-base is stored as a BartModel."""
    bare: BartModel = theirs.model
    bare.save_pretrained(tmp_path)
    theirs.final_logits_bias.zero_()
    ours = Bart.from_pretrained(str(tmp_path)).eval()
    values, mask, tokens = inputs()
    shifted = torch.cat((torch.full((B, 1), 2), tokens), 1)
    expected = theirs(
        inputs_embeds=values, attention_mask=mask.long(), decoder_input_ids=shifted
    ).logits[:, 1:]
    torch.testing.assert_close(ours.logits(ours.encode(values, mask), tokens), expected)


@torch.no_grad()
@pytest.mark.parametrize("encoder_layers", [0, 2])
def test_padding_has_no_effect(encoder_layers: int):
    model = scratch(encoder_layers=encoder_layers)
    values, mask, tokens = inputs()
    together = model.logits(model.encode(values, mask), tokens)
    for clip in range(B):
        frames = int(mask[clip].sum())
        alone = model.encode(values[clip : clip + 1, :frames], mask[clip : clip + 1, :frames])
        logits = model.logits(alone, tokens[clip : clip + 1, :4])
        torch.testing.assert_close(logits[0], together[clip, :4], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_without_an_encoder_the_features_are_the_memory():
    model = scratch(encoder_layers=0)
    values, mask, _ = inputs()
    memory = model.encode(values, mask)
    assert torch.equal(memory.values, values) and torch.equal(memory.mask, mask)
    assert not any(name.startswith("encoder") for name in model.state_dict())


@pytest.mark.parametrize("encoder_layers", [0, 2])
def test_every_parameter_learns(encoder_layers: int):
    """A parameter without a gradient would stop distributed training."""
    model = Bart.from_settings(settings(encoder_layers=encoder_layers), TOKENS, input_width=20)
    _, mask, tokens = inputs()
    model.logits(model.encode(torch.randn(B, T, 20), mask), tokens).logsumexp(-1).sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def score(model: Bart, memory: Memory, tokens: Tensor) -> Tensor:
    """(B, K, V): log-probabilities after (B, K, L) tokens, each row read anew."""
    beams = tokens.shape[1]
    alike = Memory(*(part.repeat_interleave(beams, 0) for part in memory))
    return (
        model.logits(alike, tokens.flatten(0, 1))[:, -1].log_softmax(-1).unflatten(0, (-1, beams))
    )


@torch.no_grad()
@pytest.mark.parametrize("prefix", [None, 2])
def test_cached_equals_uncached(prefix: int | None):
    """Also after hypotheses trade places and clips leave, at every step."""
    model = scratch()
    model.prefix = prefix
    values, mask, _ = inputs()
    memory = model.encode(values, mask)
    stepper, beams, steps = model.stepper(), 3, 9
    state = stepper.start(memory, beams, steps)
    tokens = torch.zeros(B, beams, 1, dtype=torch.int64)
    for step in range(steps):
        log_probs, state = stepper.step(tokens[:, :, -1], state)
        assert log_probs.dtype == torch.float32
        torch.testing.assert_close(log_probs, score(model, memory, tokens), rtol=0, atol=1e-5)
        parents = torch.randint(0, beams, tokens.shape[:2])
        state = stepper.reorder(state, parents)
        tokens = tokens.gather(1, parents[..., None].expand_as(tokens))
        if step in (2, 5):
            kept = torch.randperm(len(tokens))[:-1]
            state = stepper.select(state, kept)
            tokens, memory = tokens[kept], Memory(*(part[kept] for part in memory))
        chosen = torch.randint(3, V, (*tokens.shape[:2], 1))
        tokens = torch.cat((tokens, chosen), -1)


@torch.no_grad()
def test_steps_follow_the_weights_as_they_are_trained():
    model = scratch()
    values, mask, tokens = inputs()
    stepper = model.stepper()
    for _ in range(2):
        memory = model.encode(values, mask)
        log_probs, _ = stepper.step(tokens[:, :1], stepper.start(memory, 1, 3))
        expected = score(model, memory, tokens[:, None, :1])
        torch.testing.assert_close(log_probs, expected, rtol=0, atol=1e-5)
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)


@torch.no_grad()
def test_autocast_steps_are_near_those_without():
    model = scratch()
    values, mask, tokens = inputs()
    memory = model.encode(values, mask)
    stepper = model.stepper()
    expected, _ = stepper.step(tokens[:, :2], stepper.start(memory, 2, 3))
    with torch.autocast("cpu", torch.bfloat16):
        state = stepper.start(memory, 2, 3)
        assert state.caches[0].keys.dtype == torch.bfloat16
        log_probs, _ = stepper.step(tokens[:, :2], state)
    assert log_probs.dtype == torch.float32
    assert (log_probs - expected).abs().max() < 0.05 * expected.std()  # bf16 has 8 bits


@torch.no_grad()
@pytest.mark.parametrize("encoder_layers", [0, 2])
def test_built_again_from_its_configuration_it_is_the_same(encoder_layers: int):
    """Whatever the settings say, which would ask a network for weights."""
    model = Bart.from_settings(
        settings(encoder_layers=encoder_layers), TOKENS, input_width=D
    ).eval()
    model.prefix = 2
    saved = json.loads(json.dumps(model.configuration()))
    hub = settings().model_copy(update={"pretrained": "no/such-bart"})
    loaded = Bart.from_settings(hub, TOKENS, saved=saved).eval()
    loaded.load_state_dict(model.state_dict())
    values, mask, tokens = inputs()
    assert loaded.prefix == 2
    expected = model.logits(model.encode(values, mask), tokens)
    assert torch.equal(loaded.logits(loaded.encode(values, mask), tokens), expected)
    weights = model.state_dict().values()
    assert sum(weight.shape == (V, D) for weight in weights) == 1  # one embedding


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="width 32 is not a multiple of heads 5"):
        settings(heads=5)
    assert BartConfig(pretrained="facebook/bart-base", heads=5).heads == 5  # not read


def test_too_many_frames_or_tokens(theirs: BartForConditionalGeneration, tmp_path: Path):
    theirs.save_pretrained(tmp_path)
    model = Bart.from_pretrained(str(tmp_path)).eval()
    with pytest.raises(EarwitnessError, match=r"65 frames.*64 positions"):
        model.encode(torch.zeros(1, 65, D), torch.ones(1, 65, dtype=torch.bool))
    memory = model.encode(torch.zeros(1, 2, D), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(EarwitnessError, match="65 tokens"):
        model.logits(memory, torch.zeros(1, 64, dtype=torch.int64))  # and the prefix
    with pytest.raises(EarwitnessError, match="lower max_length"):
        model.stepper().start(memory, 2, 64)


def test_unusable_weights_are_refused(theirs: BartForConditionalGeneration, tmp_path: Path):
    def refused(what: str) -> None:
        with pytest.raises(EarwitnessError, match=what) as caught:
            Bart.from_settings(settings().model_copy(update={"pretrained": str(tmp_path)}), TOKENS)
        assert "\n" not in str(caught.value)

    refused("no weights")
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    lost = "model.decoder.layers.1.fc1.weight"
    save_file({k: v for k, v in weights.items() if k != lost}, path, {"format": "pt"})
    refused(f"lacks {lost}")
    path.write_bytes(path.read_bytes()[:-100])
    refused("no weights")
    path.unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    refused("no weights")  # a pickle is not read


def test_a_tokenizer_of_another_size(theirs: BartForConditionalGeneration, tmp_path: Path):
    theirs.save_pretrained(tmp_path)
    chosen = settings().model_copy(update={"pretrained": str(tmp_path)})
    assert Bart.from_settings(chosen, TOKENS).tokens.size == V
    with pytest.raises(EarwitnessError, match="use its tokenizer"):
        Bart.from_settings(chosen, TOKENS._replace(size=V + 1))
    with pytest.raises(EarwitnessError, match="use its tokenizer"):
        Bart.from_settings(chosen, TOKENS._replace(begin=2, end=0))

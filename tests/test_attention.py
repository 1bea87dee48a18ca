"""Where a captioner looked: against other computations of the same attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_captioners import make_captioner
from tiny_repository import SECONDS, make_repository
from torch import Tensor, nn

from earwitness.attention import attention
from earwitness.captioning import CaptioningSystem
from pipeline.config.bart import BartConfig
from pipeline.decoding.attention import COLUMNS, recorded, word_of_token
from pipeline.models.decoders.bart import Bart
from pipeline.tensors import Memory, TokenIds
from pipeline.text.subword import train_subword
from pipeline.text.vocabulary import Vocabulary

T, D = 9, 32
TOKENS = TokenIds(40, begin=0, pad=1, end=2)
IDS = torch.tensor([[0, 7, 9, 30, 11]])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make_repository(root)
    return root


def inputs_of(module: nn.Module) -> list[Tensor]:
    given: list[Tensor] = []
    module.register_forward_hook(lambda _module, inputs, _output: given.append(inputs[0]))
    return given


def memory_of(width: int) -> Memory:
    return Memory(torch.randn(1, T, width), torch.ones(1, T, dtype=torch.bool))


@pytest.mark.parametrize("prefix", [None, 2])
def test_barts_is_what_transformers_gives_out(prefix: int | None) -> None:
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "heads": 4, "width": D, "feed_forward": 64}
    made = Bart.from_settings(BartConfig(pretrained=None, **sizes), TOKENS)
    bart = Bart(
        transformers.BartConfig(**{**made.config.to_dict(), "init_std": 0.5}), prefix=prefix
    )
    bart.eval()
    memory = memory_of(D)
    with torch.no_grad(), recorded(bart) as layers:
        bart.logits(memory, IDS)
    bart.decoder.config._attn_implementation = "eager"
    ids = IDS if prefix is None else torch.cat([torch.tensor([[prefix]]), IDS], 1)
    theirs = bart.decoder(
        input_ids=ids, encoder_hidden_states=memory.values, output_attentions=True
    ).cross_attentions
    assert len(layers) == len(theirs) == 2
    for own, other in zip(layers, theirs, strict=True):
        assert own.std() > 0.01
        torch.testing.assert_close(own, other[0].mean(0), atol=1e-5, rtol=1e-4)


def test_the_transformers_is_nn_multiheadattentions() -> None:
    model = make_captioner("words", "logmel", 32).model
    layer = model.decoder.stack()[0]
    theirs = nn.MultiheadAttention(16, layer.heads, batch_first=True)
    with torch.no_grad():
        weight = torch.cat([layer.query.weight, layer.memory.weight])
        theirs.in_proj_weight.copy_(8 * weight)  # far from even
        layer.query.weight.copy_(8 * layer.query.weight)
        layer.memory.weight.copy_(8 * layer.memory.weight)
        theirs.in_proj_bias.copy_(torch.cat([layer.query.bias, layer.memory.bias]))
    hidden, memory = inputs_of(layer.query), memory_of(16)
    with torch.no_grad(), recorded(model) as layers:
        model.logits(memory, torch.tensor([[0, 3, 4]]))
    _, other = theirs(hidden[0], memory.values, memory.values)
    assert layers[0].std() > 0.01
    torch.testing.assert_close(layers[0], other[0], atol=1e-5, rtol=1e-4)


def test_the_grus_gives_the_context_that_it_reads() -> None:
    model = make_captioner("words", "logmel", 32, "gru").model
    contexts, memory = inputs_of(model.decoder.context), memory_of(16)
    with torch.no_grad(), recorded(model) as layers:
        model.logits(memory, torch.tensor([[0, 3, 4, 5]]))
    (weights,) = layers
    assert weights.shape == (4, T) and weights.sum(1) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(weights @ memory.values[0], torch.cat(contexts, 1)[0])


def test_tokens_belong_to_words() -> None:
    words = Vocabulary.train(["a dog barks"], 1)
    assert word_of_token(words, words.encode(["a dog barks"], 9)[0]) == [0, 1, 2]
    parts = train_subword(["a dog barks", "dogs bark", "a cat"] * 3, 280)
    (ids,) = parts.encode(["a catdog barks"], 20)
    owners = word_of_token(parts, ids)
    assert len(owners) == len(ids) - 2 > 3 and sorted(owners) == owners
    pairs = [*zip(owners, ids[1:-1], strict=True)]
    of_words = [[id for owner, id in pairs if owner == word] for word in range(3)]
    texts = parts.decode([[ids[0], *own, ids[-1]] for own in of_words])
    assert [text.strip() for text in texts] == ["a", "catdog", "barks"]


def test_a_systems_captions_have_a_row_a_word(root: Path) -> None:
    files = [root / f"sounds/{number}.wav" for number in range(len(SECONDS))]
    system = CaptioningSystem.load("three", root=root, device="cpu")
    before = system.caption(files)
    found = attention(system, files, [caption.text for caption in before])
    for caption, each in zip(before, found, strict=True):
        assert each is not None and list(each.words) == caption.text.split()
        assert each.weights.shape[0] == len(each.words) and 1 < each.weights.shape[1] <= COLUMNS
        assert each.weights.sum(1) == pytest.approx(1, abs=1e-5) and each.weights.min() >= 0
    assert system.caption(files) == before  # no hook is left
    for member in system.ensemble.captioners:
        assert not any(module._forward_hooks for module in member.model.modules())


def test_an_ensembles_is_the_mean_of_its_members(root: Path) -> None:
    """Of those that attend to time: `other` reads a pooled feature, and alone has none."""
    path, text = root / "sounds/1.wav", "a dog barks"
    folder = root / "data/models/captioners"

    def of(system: Any) -> Any:
        (found,) = attention(CaptioningSystem.load(system, root=root, device="cpu"), [path], [text])
        return found

    assert of(folder / "other") is None
    longer, shorter = of(folder / "heard").weights, of(folder / "encoded").weights
    columns = longer.shape[1]
    assert shorter.shape[1] < columns
    at = (np.arange(columns) + 0.5) * shorter.shape[1] / columns - 0.5
    stretched = np.stack([np.interp(at, np.arange(shorter.shape[1]), row) for row in shorter])
    stretched /= stretched.sum(1, keepdims=True)
    assert of("three").weights == pytest.approx((longer + stretched) / 2, abs=1e-5)


def test_a_loud_part_that_the_decoder_must_read_is_where_it_looks() -> None:
    """The keys of one frame are made to fit each query: all weight goes there."""
    model = make_captioner("words", "logmel", 32).model
    layer = model.decoder.stack()[0]
    memory = memory_of(16)
    with torch.no_grad():
        layer.query.weight.zero_()
        layer.query.bias.fill_(1.0)
        layer.memory.weight.zero_()
        layer.memory.weight[:16] = torch.eye(16)
        memory.values[0, 6] = 50.0
        with recorded(model) as layers:
            model.logits(memory, torch.tensor([[0, 3]]))
    assert layers[0].argmax(1).tolist() == [6, 6] and layers[0][:, 6].min() > 0.99

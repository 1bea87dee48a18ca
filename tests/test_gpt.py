"""The GPT-style decoder against transformers' GPT-2, and cached against uncached."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from pipeline.errors import EarwitnessError
from pipeline.models.decoders.gpt import Gpt, GptStepper, Sizes, load_gpt
from pipeline.tensors import Memory, TokenIds
from pipeline.text.subword import SubwordTokenizer, pretrained

CAPTIONS = ["a dog barks twice", "rain falls on a metal roof", "a bell rings and a dog barks"]
IDS = TokenIds(40, 0, 1, 2)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 with a tokenizer of its form: one special token, no <s>."""
    folder = tmp_path_factory.mktemp("gpt2")
    backend = Backend(BPE())
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=ByteLevel.alphabet()
    )
    backend.train_from_iterator(CAPTIONS, trainer)
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=end, eos_token=end, unk_token=end
    ).save_pretrained(folder)
    torch.manual_seed(0)
    size = backend.get_vocab_size()
    config = GPT2Config(
        vocab_size=size, n_positions=32, n_embd=24, n_layer=3, n_head=4, bos_token_id=0,
        eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_it_is_gpt_2_with_gpt_2s_weights(gpt2: Path) -> None:
    theirs = GPT2LMHeadModel.from_pretrained(gpt2).eval()
    size = theirs.config.vocab_size
    ours = load_gpt(str(gpt2), size + 3, 0.1).eval()
    inputs = torch.randn(3, 9, 24, generator=torch.Generator().manual_seed(1))
    expected = theirs(inputs_embeds=inputs).logits
    logits = ours.logits(ours(inputs))
    torch.testing.assert_close(logits[..., :size], expected, atol=2e-4, rtol=2e-4)
    # the added tokens begin as the end of text
    torch.testing.assert_close(logits[..., size:], logits[..., :1].expand(-1, -1, 3))


def test_a_gpt_2s_tokenizer_gets_a_begin_a_padding_and_an_end(gpt2: Path, tmp_path: Path) -> None:
    tokenizer = pretrained(str(gpt2), "prefix")
    assert len({tokenizer.begin, tokenizer.pad, tokenizer.end}) == 3
    rows = tokenizer.encode(CAPTIONS, 30)
    assert tokenizer.decode(rows) == CAPTIONS
    own = GPT2LMHeadModel.from_pretrained(gpt2).config.vocab_size
    assert all(max(row[1:-1]) < own and min(row[0], row[-1]) >= own for row in rows)
    tokenizer.save(tmp_path)
    assert SubwordTokenizer.load(tmp_path).encode(CAPTIONS, 30) == rows


def test_what_is_no_gpt_2_is_one_line(tmp_path: Path, gpt2: Path) -> None:
    with pytest.raises(EarwitnessError, match=r"prefix.pretrained: no weights .*nothing"):
        load_gpt(str(tmp_path / "nothing"), 40, 0.1)
    with pytest.raises(EarwitnessError, match=r"prefix.pretrained: no tokenizer"):
        pretrained(str(tmp_path / "nothing"), "prefix")
    with pytest.raises(EarwitnessError, match=r"prefix.width 10 is not a multiple of prefix.heads"):
        Gpt(Sizes(40, 16, 1, 4, 10), 0.1)


def small(positions: int = 40) -> Gpt:
    torch.manual_seed(0)
    model = Gpt(Sizes(IDS.size, positions, 3, 2, 16), 0.1).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4) if weight.ndim == 2 else weight.add_(0.1)
    return model


@torch.no_grad()
def uncached(model: Gpt, prefix: Tensor, tokens: Tensor) -> Tensor:
    """(P, D) and (L,) → (V,) log-probabilities of what follows."""
    inputs = torch.cat([prefix, model.embedding(tokens)])[None]
    return model.logits(model(inputs))[0, -1].log_softmax(-1)


@pytest.mark.parametrize("length", [1, 3])
def test_cached_steps_are_the_uncached_logits(length: int) -> None:
    """Of every hypothesis, through reorderings and clips that leave."""
    model, clips, beams = small(), 4, 3
    draw = torch.Generator().manual_seed(1)
    prefix = torch.randn(clips, length, 16, generator=draw)
    stepper = GptStepper(model, IDS)
    state = stepper.start(Memory(prefix, torch.ones(clips, length).bool()), beams, 8)
    rows = torch.full((clips, beams, 1), IDS.begin)
    for step in range(7):
        found, state = stepper.step(rows[:, :, -1], state)
        for clip in range(len(rows)):
            for beam in range(beams):
                expected = uncached(model, prefix[clip], rows[clip, beam])
                torch.testing.assert_close(found[clip, beam], expected, atol=1e-4, rtol=1e-4)
        parents = torch.randint(beams, (len(rows), beams), generator=draw)
        state = stepper.reorder(state, parents)
        rows = rows.gather(1, parents[..., None].expand_as(rows))
        chosen = torch.randint(3, IDS.size, (len(rows), beams, 1), generator=draw)
        rows = torch.cat([rows, chosen], -1)
        if step in (2, 4):
            kept = torch.tensor([2, 0, 1] if step == 2 else [1, 2])
            state, rows, prefix = stepper.select(state, kept), rows[kept], prefix[kept]


def test_too_long_a_caption_is_one_line() -> None:
    model = small(positions=8)
    memory = Memory(torch.zeros(1, 1, 16), torch.ones(1, 1).bool())
    with pytest.raises(EarwitnessError, match=r"10 tokens with the prefix.*8 positions"):
        GptStepper(model, IDS).start(memory, 2, 9)

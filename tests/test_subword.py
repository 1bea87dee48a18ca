"""Subword tokenizers: round trips, determinism, and transformers' own on the same files."""

from __future__ import annotations

import string
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import RobertaProcessing
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipeline.errors import EarwitnessError
from pipeline.text.subword import SubwordTokenizer, normalise, pretrained, train_subword

CAPTIONS = [
    "A dog barks loudly, while a car passes by.",
    "Rain is falling on a metal roof!",
    "A car passes by, and a dog barks…",
    "People are talking in a café while it's raining .",
    "A metal door opens and people are talking.",
]


def test_normalise():
    assert normalise("  A Dog\tbarks, twice . ") == "a dog barks, twice"
    assert normalise("It's raining!?") == "it's raining"
    assert normalise(" . ") == ""


def test_every_training_caption_comes_back():
    tokenizer = train_subword(CAPTIONS, 120)
    rows = tokenizer.encode(CAPTIONS, 64)
    assert all(row[0] == tokenizer.begin and row[-1] == tokenizer.end for row in rows)
    assert all(tokenizer.end not in row[:-1] for row in rows)
    assert tokenizer.decode(rows) == [normalise(caption) for caption in CAPTIONS]
    assert max(max(row) for row in rows) < tokenizer.size <= 120


def test_rows_are_cut_with_their_end_kept():
    tokenizer = train_subword(CAPTIONS, 120)
    whole = tokenizer.encode(CAPTIONS, 64)
    cut = tokenizer.encode(CAPTIONS, 6)
    assert [[*row[:5], tokenizer.end] for row in whole] == cut


def test_decode_stops_at_the_first_end_and_skips_padding():
    tokenizer = train_subword(CAPTIONS, 120)
    row = tokenizer.encode(["a dog barks"], 64)[0]
    junk = tokenizer.encode(["rain"], 64)[0]
    ids = torch.full((2, len(row) + len(junk)), tokenizer.pad)
    ids[0, : len(row)] = torch.tensor(row)
    ids[1] = torch.tensor(row + junk)
    assert tokenizer.decode(ids) == ["a dog barks", "a dog barks"]
    assert tokenizer.decode([[tokenizer.begin, tokenizer.end]]) == [""]


def test_special_tokens_in_a_caption_are_text():
    tokenizer = train_subword([*CAPTIONS, "tags </s> <s> <pad>"], 120)
    row = tokenizer.encode(["a </s> dog <pad>"], 64)[0]
    assert not {tokenizer.begin, tokenizer.end, tokenizer.pad} & set(row[1:-1])
    assert tokenizer.decode([row]) == ["a </s> dog <pad>"]


def test_unseen_characters_become_unknown_without_harm():
    tokenizer = train_subword(CAPTIONS, 120)
    assert tokenizer.decode(tokenizer.encode(["a 鳥 dog"], 64)) == ["a dog"]


def test_saved_bytes_are_the_same_in_another_process(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from pipeline.text.subword import train_subword;"
        f"train_subword({CAPTIONS!r}, 120).save(Path(sys.argv[1]))"
    )
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True)
    one, two = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("one", "two"))
    assert one == two
    loaded = SubwordTokenizer.load(tmp_path / "one")
    trained = train_subword(CAPTIONS, 120)
    assert loaded.encode(CAPTIONS, 64) == trained.encode(CAPTIONS, 64)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == one


def test_frequent_words_are_one_token():
    tokenizer = train_subword(CAPTIONS, 200)
    row = tokenizer.encode(["a metal dog"], 64)[0]
    assert len(row) == 2 + 3


def test_errors_are_one_line(tmp_path: Path):
    with pytest.raises(EarwitnessError, match="no captions"):
        train_subword([" . "], 100)
    with pytest.raises(EarwitnessError, match=r"vocabulary is 10.*at least"):
        train_subword(CAPTIONS, 10)
    with pytest.raises(EarwitnessError, match="not there"):
        SubwordTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(EarwitnessError, match="not a tokenizer"):
        SubwordTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(EarwitnessError, match="not UTF-8"):
        SubwordTokenizer.load(tmp_path)
    with pytest.raises(EarwitnessError, match="no tokenizer") as caught:
        pretrained(str(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)


@pytest.fixture
def bart_folder(tmp_path: Path) -> Path:
    """A tokenizer in facebook/bart-base's form: cased, byte-level, RoBERTa's special tokens."""
    backend = Backend(BPE())
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=ByteLevel.alphabet()
    )
    backend.train_from_iterator(CAPTIONS, trainer)
    backend.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    ).save_pretrained(tmp_path / "bart")
    return tmp_path / "bart"


def test_pretrained_agrees_with_transformers(bart_folder: Path, tmp_path: Path):
    ours = pretrained(str(bart_folder))
    theirs = AutoTokenizer.from_pretrained(bart_folder)
    texts = [normalise(caption) for caption in CAPTIONS]
    assert ours.encode(CAPTIONS, 64) == theirs(texts)["input_ids"]
    assert ours.encode(CAPTIONS, 7) == theirs(texts, truncation=True, max_length=7)["input_ids"]
    assert ours.size == len(theirs)
    assert (ours.begin, ours.pad, ours.end) == (0, 1, 2)
    ours.save(tmp_path)
    assert SubwordTokenizer.load(tmp_path).encode(CAPTIONS, 64) == ours.encode(CAPTIONS, 64)


ODD = [
    "A dog - a big one - barks, and it's raining (hard); 2.5 minutes!",
    "\"Rain\" falls… on a café's roof @ night",
    "wind , waves ,and a man:woman/child_talk",
]


@pytest.mark.parametrize("saved", [False, True])
def test_punctuation_can_be_left_out_as_the_baseline_does(tmp_path: Path, saved: bool) -> None:
    """As DCASE 2022's baseline prepares captions; a trained tokenizer does it wherever it is."""
    tokenizer = train_subword([*CAPTIONS, *ODD], 400, "none")
    if saved:
        tokenizer.save(tmp_path)
        tokenizer = SubwordTokenizer.load(tmp_path)
    for caption in (*CAPTIONS, *ODD):
        table = str.maketrans("", "", string.punctuation)
        expected = " ".join(normalise(caption).translate(table).split())
        (row,) = tokenizer.encode([caption], 99)
        assert tokenizer.decode([row]) == [expected]
        assert tokenizer.encode([expected], 99) == [row]
    kept = train_subword([*CAPTIONS, *ODD], 400)
    assert kept.decode(kept.encode(ODD[:1], 99)) == [normalise(ODD[0])]
    with pytest.raises(EarwitnessError, match="no captions to train on"):
        train_subword(["- ! -", "?"], 400, "none")

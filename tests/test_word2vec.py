"""Word vectors of hand-made files, in both of word2vec's formats."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.encoders import Word2VecEncoderConfig
from pipeline.encoders.registry import build_text_encoder, weights_digest
from pipeline.encoders.word2vec import WordVectors
from pipeline.errors import EarwitnessError

VECTORS = {
    "dog": (1.0, -2.0, 0.5),
    "barks": (0.25, 4.0, -1.0),
    "café": (3.0, 3.0, 3.0),
    "Dog": (9.0, 9.0, 9.0),  # Google News has both
    "rain": (float.fromhex("0x1.0a0a0ap+3"), -0.125, 1e-3),  # bytes 0x0a and 0x20 in it
    "dog_park": (8.0, 8.0, 8.0),
}


def binary(vectors: dict[str, tuple[float, ...]], between: bytes = b"") -> bytes:
    """``between``: word2vec's own program ends each vector with a line's end, Google News not."""
    head = f"{len(vectors)} {len(next(iter(vectors.values())))}\n".encode()
    records = [f"{word} ".encode() + struct.pack(f"<{len(v)}f", *v) for word, v in vectors.items()]
    return head + between.join(records) + between


def text(vectors: dict[str, tuple[float, ...]]) -> bytes:
    lines = [f"{word} {' '.join(map(repr, values))}" for word, values in vectors.items()]
    return "\n".join([f"{len(vectors)} 3", *lines, ""]).encode()


FORMS = {
    "binary": binary(VECTORS),
    "lines": binary(VECTORS, b"\n"),
    "text": text(VECTORS),
    "no last line's end": text(VECTORS)[:-1],
    "spaces before the ends": text(VECTORS).replace(b"\n", b" \n").replace(b"3 \n", b"3\n", 1),
}


@pytest.fixture(params=FORMS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "vectors"
    path.write_bytes(FORMS[request.param])
    return path


def test_every_word_is_found_and_no_other(file: Path) -> None:
    vectors = WordVectors(file)
    assert vectors.width == 3
    for word, values in VECTORS.items():
        found = vectors.find(word)
        assert found is not None and found.tolist() == np.float32(values).tolist(), word
    for word in ("cat", "do", "dogs", "", "park"):
        assert vectors.find(word) is None


def test_a_caption_is_the_mean_of_its_known_words(file: Path) -> None:
    encoder = build_text_encoder(Word2VecEncoderConfig(module="word2vec", weights=str(file)))
    captions = ["A dog barks.", "Rain, café, RAIN!", "of the and", "", "dog"]
    packed = encoder.encode(captions)
    dog, barks, cafe, rain = (np.array(VECTORS[w]) for w in ("dog", "barks", "café", "rain"))
    expected = [(dog + barks) / 2, (2 * rain + cafe) / 3, 0 * dog, 0 * dog, dog]
    assert packed.lengths.tolist() == [1] * 5
    np.testing.assert_allclose(packed.values, expected, rtol=1e-6)
    tokens = build_text_encoder(
        Word2VecEncoderConfig(module="word2vec", weights=str(file), pooling="tokens")
    ).encode(captions, np.float16)
    assert tokens.values.dtype == np.float16 and tokens.lengths.tolist() == [2, 3, 1, 1, 1]
    np.testing.assert_allclose(tokens.values[2:5], [rain, cafe, rain], rtol=1e-3)
    assert not tokens.values[5:7].any()


def test_many_words_of_a_wide_file_are_all_found(tmp_path: Path) -> None:
    """Vectors of random bytes hold every byte, line ends and spaces too."""
    draw = np.random.default_rng(0)
    values = draw.normal(size=(3000, 300)).astype(np.float32)
    words = {f"w{row}": tuple(own.tolist()) for row, own in enumerate(values)}
    (tmp_path / "wide.bin").write_bytes(binary(words))
    vectors = WordVectors(tmp_path / "wide.bin")
    assert all((vectors.find(f"w{row}") == own).all() for row, own in enumerate(values))
    assert vectors.find("w3000") is None


def test_its_digest_is_the_files(file: Path) -> None:
    settings = Word2VecEncoderConfig(module="word2vec", weights=str(file))
    before = weights_digest(settings)
    file.write_bytes(file.read_bytes() + b"\n")
    assert weights_digest(settings) != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no weights at .*; give the path of GoogleNews-vectors-negative300.bin"),
        (b"", "it is empty"),
        (b"\x1f\x8b\x08gzip", "its first line is not the number of words and their width"),
        (b"dog 1.0 2.0\n", "its first line is not"),
        (b"0 3\n", "says that it holds no vectors"),
        (FORMS["binary"][:-2], "it ends before its 6 words"),
        (FORMS["text"].replace(b"6 3", b"9 3"), "it ends before its 9 words"),
        # counts that would take terabytes
        (FORMS["binary"].replace(b"6 3", b"99999999999 3"), "it ends before its 99999999999 words"),
        (FORMS["binary"].replace(b"6 3", b"6 99999999999"), "it ends before its 6 words"),
        (FORMS["text"].replace(b"6 3", b"-6 3"), "says that it holds no vectors"),
        (FORMS["text"].replace(b"6 3", b"5 3"), "it goes on after its 5 words"),
        (FORMS["binary"].replace(b"6 3", b"5 3"), "it goes on after its 5 words"),
        # bytes added in the middle, so that words begin in vectors
        (FORMS["binary"][:40] + b"\nx \n" + FORMS["binary"][40:], "damaged|goes on"),
    ],
)
def test_what_is_no_such_file_is_one_line(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "vectors.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EarwitnessError, match=message) as raised:
        build_text_encoder(Word2VecEncoderConfig(module="word2vec", weights=str(path)))
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        FORMS["text"].replace(b"0.25 4.0 -1.0", b"0.25 4.0 x"),
        FORMS["text"].replace(b"0.25 4.0 -1.0", b"0.25 4.0"),
        FORMS["text"].replace(b"0.25 4.0 -1.0", b"0.25 4.0 -1.0 3.0"),
        FORMS["text"].replace(b"0.25 4.0 -1.0", b"0.25 nan -1.0"),
        FORMS["text"].replace(b"0.25 4.0 -1.0", b"0.25 4.0 1e999"),
        FORMS["binary"].replace(struct.pack("<f", 4.0), struct.pack("<f", np.nan)),
        FORMS["binary"].replace(struct.pack("<f", 4.0), struct.pack("<f", -np.inf)),
    ],
)
def test_a_vector_that_is_not_finite_numbers_is_one_line(tmp_path: Path, content: bytes) -> None:
    assert content not in FORMS.values()
    (tmp_path / "x").write_bytes(content)
    vectors = WordVectors(tmp_path / "x")
    assert vectors.find("dog") is not None
    with pytest.raises(EarwitnessError, match="the vector of 'barks' is not 3 finite numbers"):
        vectors.find("barks")

"""Embeddings of many texts that are kept for all commands of a user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import DTypeLike

from earwitness.remembered_text import MANY, RememberedText
from pipeline.encoders.base import Packed, TextEncoder

TEXTS = [f"sound {number}" for number in range(MANY)]


class Counting(TextEncoder):
    """Lengths of texts, in two columns; counts what it is asked."""

    width = 2

    def __init__(self) -> None:
        self.asked = 0

    def encode(self, captions: Sequence[str], dtype: DTypeLike = np.float32) -> Packed:
        self.asked += len(captions)
        values = np.array([[len(text), number] for number, text in enumerate(captions)], dtype)
        return Packed(values, np.ones(len(captions), np.int64))


@pytest.fixture
def encoder() -> Counting:
    return Counting()


def test_many_texts_are_embedded_once(encoder: Counting, tmp_path: Path) -> None:
    first = RememberedText(encoder, "minilm", tmp_path / "kept").encode(TEXTS, np.float16)
    again = RememberedText(encoder, "minilm", tmp_path / "kept").encode(TEXTS, np.float16)
    assert encoder.asked == MANY
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_what_they_depend_on_is_told_apart(encoder: Counting, tmp_path: Path) -> None:
    RememberedText(encoder, "minilm 1", tmp_path).encode(TEXTS)
    other = RememberedText(encoder, "minilm 2", tmp_path)
    other.encode(TEXTS)
    other.encode(TEXTS, np.float16)
    other.encode([*TEXTS[:-1], "another sound"])
    assert encoder.asked == 4 * MANY
    assert len([*tmp_path.iterdir()]) == 4


def test_few_texts_are_not_kept(encoder: Counting, tmp_path: Path) -> None:
    own = RememberedText(encoder, "minilm", tmp_path)
    own.encode(TEXTS[:-1])
    own.encode(TEXTS[:-1])
    assert encoder.asked == 2 * (MANY - 1) and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array at all"])
def test_a_broken_file_is_made_again(encoder: Counting, tmp_path: Path, content: bytes) -> None:
    own = RememberedText(encoder, "minilm", tmp_path)
    whole = own.encode(TEXTS)
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    for broken in (content, good[:-1]):
        path.write_bytes(broken)
        np.testing.assert_array_equal(own.encode(TEXTS).values, whole.values)
        assert path.read_bytes() == good


def test_an_array_of_another_shape_is_not_taken(encoder: Counting, tmp_path: Path) -> None:
    own = RememberedText(encoder, "minilm", tmp_path)
    whole = own.encode(TEXTS)
    (path,) = tmp_path.iterdir()
    with path.open("wb") as stream:
        np.save(stream, whole.values[:-1])
    np.testing.assert_array_equal(own.encode(TEXTS).values, whole.values)


def test_where_nothing_can_be_kept_it_works_all_the_same(encoder: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    own = RememberedText(encoder, "minilm", tmp_path / "file")
    assert own.encode(TEXTS).values.shape == (MANY, 2)
    own.encode(TEXTS)
    assert encoder.asked == 2 * MANY

"""Word vectors, such as word2vec's of Google News (Mikolov et al. 2013; CMU 5.2).

The file is memory-mapped: one pass indexes where each word starts, and a caption's words are looked
up in that index. Both of word2vec's formats, binary and text, are read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tqdm import tqdm

from pipeline.config.encoders import Word2VecEncoderConfig
from pipeline.encoders.base import Packed, TextEncoder
from pipeline.encoders.carried import Carried, carried
from pipeline.encoders.sources import Hub
from pipeline.errors import EarwitnessError
from pipeline.text.ptb import ptb_tokens

HUB = Hub(by_hand=Word2VecEncoderConfig.source)
LINE = 1 << 20  # bytes: the longest line or word of such a file


class Word2VecTextEncoder(TextEncoder):
    """Word vectors of a caption's PTB tokens in lower case.

    ``tokens``: one vector a word; ``mean``: their mean. Words that the file lacks, such as "a" and
    "of" in Google News, are skipped; a caption of such words alone is one vector of zeros, equally
    similar to every sound. (The baseline's code draws a random vector for them.)
    """

    def __init__(self, settings: Word2VecEncoderConfig, vectors: WordVectors) -> None:
        self.settings, self.vectors, self.width = settings, vectors, vectors.width
        self.mean = settings.pooling == "mean"
        self._known: dict[str, NDArray[np.float32] | None] = {}

    def __reduce__(self) -> Carried:
        return carried(_from_file, self.settings, self.vectors.path)

    def encode(self, captions: Sequence[str], dtype: DTypeLike = np.float32) -> Packed:
        entries = [self._caption(caption) for caption in captions]
        lengths = np.array([len(entry) for entry in entries], dtype=np.int64)
        values = np.concatenate(entries) if entries else np.zeros((0, self.width))
        return Packed(values.astype(dtype), lengths)

    def _caption(self, caption: str) -> NDArray[np.float32]:
        """(L, D), L at least 1."""
        found = [
            vector for word in ptb_tokens(caption) if (vector := self._vector(word)) is not None
        ]
        if not found:
            return np.zeros((1, self.width), np.float32)
        values = np.stack(found)
        return values.mean(0, keepdims=True) if self.mean else values

    def _vector(self, word: str) -> NDArray[np.float32] | None:
        if word not in self._known:
            self._known[word] = self.vectors.find(word)
        return self._known[word]


class Form(NamedTuple):
    """The format of a file."""

    words: int
    width: int  # D
    text: bool  # one line a word; else binary: D float32 after each word
    start: int  # byte of the first word


class WordVectors:
    """The vectors of a file, looked up by word."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            EarwitnessError: the file is missing, truncated or not one of word vectors.
        """
        self.path = path
        if not path.is_file():
            raise self._unfit("there is no such file")
        if path.stat().st_size == 0:
            raise self._unfit("it is empty")
        with path.open("rb") as stream:
            self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._form = self._read_form()
        self.width = self._form.width
        # 16 bytes a word; a dictionary of 3 million words would take half a gigabyte
        places = np.fromiter(self._places(), dtype=np.dtype((np.int64, 2)), count=self._form.words)
        self._check_end()
        self._hashes, order = np.unique(places[:, 0], return_index=True)  # the first of equals
        self._starts = places[order, 1]

    def find(self, word: str) -> NDArray[np.float32] | None:
        """(D,) the word's vector; None if the file lacks the word.

        Raises:
            EarwitnessError: the vector is not D finite numbers.
        """
        wanted = word.encode()
        at = int(np.searchsorted(self._hashes, hash(wanted)))
        if at == len(self._hashes) or self._hashes[at] != hash(wanted):
            return None
        start = int(self._starts[at])
        after = start + len(wanted)
        if self._bytes[start : after + 1] != wanted + b" ":
            return None
        try:
            if self._form.text:
                vector = np.array(self._line(after).split(), np.float32)
            else:
                vector = np.frombuffer(self._bytes, "<f4", self.width, after + 1).astype("f4")
        except ValueError:
            vector = np.zeros(0, np.float32)
        if vector.shape != (self.width,) or not np.isfinite(vector).all():
            raise self._unfit(f"the vector of {word!r} is not {self.width} finite numbers")
        return vector

    def _places(self) -> Iterator[tuple[int, int]]:
        """Each word's hash and the byte where it starts, in the file's order."""
        at, form, data = self._form.start, self._form, self._bytes
        for _ in tqdm(range(form.words), "index words", unit="word", disable=None, leave=False):
            while data[at : at + 1] == b"\n":  # word2vec's program ends vectors with one
                at += 1
            space = data.find(b" ", at, at + LINE)
            if space < 0:
                raise self._unfit(f"it ends before its {form.words} words")
            if data.find(b"\n", at, space) >= 0:
                raise self._unfit(f"it is damaged at byte {at}: a word has a line's end in it")
            start, at = at, self._end(space)
            self._last = at
            yield hash(data[start:space]), start

    def _check_end(self) -> None:
        """Refuses what goes on behind the last word: a file that was altered, or another format."""
        if self._last < len(self._bytes) and self._bytes[self._last : self._last + LINE].strip():
            raise self._unfit(f"it goes on after its {self._form.words} words")

    def _end(self, space: int) -> int:
        """The byte after a word's vector."""
        if self._form.text:
            end = self._bytes.find(b"\n", space)
            return len(self._bytes) if end < 0 else end + 1
        end = space + 1 + 4 * self.width
        if end > len(self._bytes):
            raise self._unfit(f"it ends before its {self._form.words} words")
        return end

    def _read_form(self) -> Form:
        head = self._line(0).split()
        try:
            words, width = (int(part) for part in head)
        except ValueError:
            raise self._unfit("its first line is not the number of words and their width") from None
        if words < 1 or width < 1:
            raise self._unfit("its first line says that it holds no vectors")
        start = self._bytes.find(b"\n") + 1
        form = Form(words, width, self._is_text(start, width), start)
        # a word is a letter, a space and D numbers at least: " 0" in text
        if words * (2 + width * (2 if form.text else 4)) > len(self._bytes) + words:
            raise self._unfit(f"it ends before its {words} words of {width} numbers")
        return form

    def _is_text(self, start: int, width: int) -> bool:
        try:
            numbers = self._line(start).decode().split()[1:]
            return len(numbers) == width and bool(np.isfinite(np.array(numbers, np.float64)).all())
        except ValueError:
            return False

    def _line(self, start: int) -> bytes:
        """The bytes up to the next line's end."""
        end = self._bytes.find(b"\n", start, start + LINE)
        return self._bytes[start : end if end >= 0 else start + LINE]

    def _unfit(self, what: str) -> EarwitnessError:
        return EarwitnessError(
            f"{self.path}: not word vectors in word2vec's binary or text format: {what}; "
            "give the unpacked file"
        )


def build(settings: Word2VecEncoderConfig, location: Path, device: str) -> Word2VecTextEncoder:
    """The encoder; it always runs on the CPU."""
    return _from_file(settings, location)


def _from_file(settings: Word2VecEncoderConfig, location: Path) -> Word2VecTextEncoder:
    return Word2VecTextEncoder(settings, WordVectors(location))

"""Many short texts as one block of bytes: some 10 million take no object each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

PART = 1 << 12  # texts that are gathered together


class Texts(Sequence[str]):
    """N texts; text ``i`` is ``content[offsets[i] : offsets[i + 1]]`` in UTF-8.

    Raises:
        UnicodeEncodeError: a text with half a character (a lone surrogate), which is no UTF-8.
    """

    def __init__(self, content: bytes, offsets: NDArray[np.int64]) -> None:
        self.content, self.offsets = content, offsets

    @staticmethod
    def of(texts: Iterable[str]) -> Texts:
        """Packs ``texts``."""
        each = [*texts]
        joined = "".join(each)
        content = joined.encode()
        plain = len(content) == len(joined)  # a byte a letter
        sizes = map(len, each if plain else map(str.encode, each))
        return Texts(content, offsets_of(np.fromiter(sizes, np.int64, len(each))))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[row] for row in range(len(self))[at]]
        at = range(len(self))[at]
        return self.content[self.offsets[at] : self.offsets[at + 1]].decode()

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self), PART):
            yield from self.between(begin, min(begin + PART, len(self)))

    def between(self, begin: int, end: int) -> list[str]:
        """Texts ``begin`` to ``end`` − 1."""
        ends = self.offsets[begin : end + 1].tolist()
        return [self.content[start:stop].decode() for start, stop in pairwise(ends)]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) bytes of each."""
        return np.diff(self.offsets)

    def parts(self, rows: NDArray[np.int64] | None = None) -> Iterator[bytes]:
        """The bytes of the texts in ``rows``, or of all, one after another, in parts."""
        if rows is None:
            yield self.content[self.offsets[0] : self.offsets[-1]]
            return
        for at in range(0, len(rows), PART):
            part = rows[at : at + PART]
            starts, stops = self.offsets[part].tolist(), self.offsets[part + 1].tolist()
            pairs = zip(starts, stops, strict=True)
            yield b"".join([self.content[start:stop] for start, stop in pairs])


class TextLists(Sequence[tuple[str, ...]]):
    """N lists of texts, such as the captions of N clips; list ``i`` is ``texts[offsets[i]]`` …"""

    def __init__(self, texts: Texts, offsets: NDArray[np.int64]) -> None:
        self.texts, self.offsets = texts, offsets

    @staticmethod
    def of(lists: Sequence[Sequence[str]]) -> TextLists:
        """Packs ``lists``."""
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        return TextLists(Texts.of(text for row in lists for text in row), offsets_of(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[row] for row in range(len(self))[at]]
        at = range(len(self))[at]
        return tuple(self.texts.between(int(self.offsets[at]), int(self.offsets[at + 1])))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) texts of each."""
        return np.diff(self.offsets)

    def entries(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of the texts of ``rows``, list by list."""
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        begins = np.repeat(self.offsets[rows] - (ends - lengths), lengths)
        return begins + np.arange(ends[-1] if len(ends) else 0)


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) lengths → (N + 1,) where each begins, and where the last ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])

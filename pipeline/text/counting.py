"""How often words occur, with the words of N texts as numbers: no object a text."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CountedWords:
    """The words of N texts, text by text, and V different ones, in the order of appearance."""

    words: tuple[str, ...]  # V
    numbers: NDArray[np.int64]  # of all words of all texts, in ``words``
    lengths: NDArray[np.int64]  # (N,) words of each text

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(V,) how often each word occurs."""
        return np.bincount(self.numbers, minlength=len(self.words))

    @cached_property
    def commonest(self) -> NDArray[np.int64]:
        """(N,) how often the commonest word of each text occurs in all; 0 where it has none."""
        found = np.zeros(len(self.lengths), np.int64)
        some = self.lengths > 0
        if some.any():
            begins = np.cumsum(self.lengths) - self.lengths
            found[some] = np.maximum.reduceat(self.counts[self.numbers], begins[some])
        return found


def count_words(texts: Iterable[Iterable[str]]) -> CountedWords:
    """Counts the words of N texts."""
    known: dict[str, int] = {}
    numbers, lengths = array("q"), array("q")
    for words in texts:
        before = len(numbers)
        numbers.extend([known.setdefault(word, len(known)) for word in words])
        lengths.append(len(numbers) - before)
    return CountedWords(
        tuple(known), np.frombuffer(numbers, np.int64), np.frombuffer(lengths, np.int64)
    )

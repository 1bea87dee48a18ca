"""A vocabulary of whole words: PTB tokens that occur often enough (SJTU's code).

All other words become ``<unk>``. As in the field's code it is a word like any other to the model:
where the training captions have rare words, a generated caption may contain ``<unk>``. SJTU's
``min_count`` of 1 leaves no rare words.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from pipeline.errors import EarwitnessError
from pipeline.files import read_json, write_json
from pipeline.text.counting import count_words
from pipeline.text.ptb import ptb_tokens

PAD, BEGIN, END, UNKNOWN = SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")
FILE = "vocabulary.json"


class Vocabulary:
    """Words to ids and back; ids 0 … ``size`` − 1, the specials first.

    Attributes:
        words: V of them, the specials among them. pad, begin, end, unknown: their ids.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """``words``: :data:`SPECIALS`, then others, each once."""
        self.words = tuple(words)
        self.size = len(self.words)
        self.pad, self.begin, self.end, self.unknown = range(len(SPECIALS))
        # the text "<pad>" in a caption is a word, not padding
        self.ids = {word: i for i, word in enumerate(self.words) if i >= len(SPECIALS)}

    @staticmethod
    def train(captions: Sequence[str], min_count: int) -> Vocabulary:
        """The words that occur at least ``min_count`` times in ``captions``, most frequent first.

        The ids do not depend on the order of the captions.

        Raises:
            EarwitnessError: a caption has no such word, so that it teaches nothing; or there are
                no captions.
        """
        if not captions:
            raise EarwitnessError("vocabulary: no captions to train on")
        found = count_words(_words(caption) for caption in captions)
        few = np.flatnonzero(found.commonest < min_count)
        if len(few):
            often = "" if min_count == 1 else f" that occurs {min_count} times"
            hint = "" if min_count == 1 else "lower min_count, or "
            raise EarwitnessError(
                f"vocabulary: the training caption {captions[int(few[0])]!r} has no word{often}; "
                f"{hint}correct the caption or leave it out"
            )
        counts = dict(zip(found.words, found.counts.tolist(), strict=True))
        kept = [word for word, count in counts.items() if count >= min_count]
        return Vocabulary([*SPECIALS, *sorted(kept, key=lambda word: (-counts[word], word))])

    def encode(self, captions: Sequence[str], max_tokens: int) -> list[list[int]]:
        """One list ``begin … end`` a caption, at most ``max_tokens`` long with both of them."""
        rows = []
        for caption in captions:
            ids = [self.ids.get(word, self.unknown) for word in ptb_tokens(caption)]
            rows.append([self.begin, *ids[: max_tokens - 2], self.end])
        return rows

    def decode(self, ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Captions of N rows of ids, (N, L) or lists, each cut at its first ``end``."""
        rows = ids.tolist() if isinstance(ids, Tensor) else ids
        return [self._text(row) for row in rows]

    def _text(self, row: Sequence[int]) -> str:
        row = row[: row.index(self.end)] if self.end in row else row
        return " ".join(self.words[i] for i in row if i not in (self.pad, self.begin))

    def save(self, folder: Path) -> None:
        """Writes ``vocabulary.json``: the same bytes for the same words."""
        write_json(folder / FILE, list(self.words))

    def digest(self) -> str:
        """SHA-256 of what the ids mean."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()

    @staticmethod
    def load(folder: Path) -> Vocabulary:
        """What :meth:`save` wrote.

        Raises:
            EarwitnessError: it is missing or broken.
        """
        path, hint = folder / FILE, "train the captioner again"
        words = read_json(path, hint)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise EarwitnessError(f"{path}: not a list of words; {hint}")
        if tuple(words[: len(SPECIALS)]) != SPECIALS:
            raise EarwitnessError(f"{path}: does not begin with {', '.join(SPECIALS)}; {hint}")
        if len(set(words)) < len(words):
            repeated = Counter(words).most_common(1)[0][0]
            raise EarwitnessError(f"{path}: {repeated!r} is there twice; {hint}")
        return Vocabulary(words)


def _words(caption: str) -> list[str]:
    """A caption's tokens without the specials' own names, which are no words."""
    return [word for word in ptb_tokens(caption) if word not in SPECIALS]

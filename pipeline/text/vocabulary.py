"""A vocabulary of whole words: PTB tokens that occur often enough (SJTU's code)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from pipeline.errors import EarwitnessError
from pipeline.files import read_json, write_json
from pipeline.text.ptb import ptb_tokens

PAD, BEGIN, END, UNKNOWN = SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")
FILE = "vocabulary.json"


class Vocabulary:
    """Words to ids and back; ids 0 … ``size`` − 1, the specials first.

    Attributes:
        words: V of them, the specials among them. pad, begin, end, unknown: their ids.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.ids = {word: index for index, word in enumerate(self.words)}
        self.size = len(self.words)
        self.pad, self.begin, self.end, self.unknown = (self.ids[word] for word in SPECIALS)

    @staticmethod
    def train(captions: Sequence[str], min_count: int) -> Vocabulary:
        """The words of ``captions`` that occur ``min_count`` times, the most frequent first.

        Raises:
            EarwitnessError: no such word.
        """
        counts = Counter(word for caption in captions for word in ptb_tokens(caption))
        kept = [word for word, count in counts.items() if count >= min_count]
        if not kept:
            raise EarwitnessError(
                f"vocabulary: no word occurs {min_count} times in {len(captions)} captions; "
                "lower seq2seq.min_count"
            )
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
        """What :meth:`save` wrote."""
        path = folder / FILE
        words = read_json(path, "train the captioner again")
        if not isinstance(words, list) or not set(SPECIALS) <= set(words):
            raise EarwitnessError(f"{path}: not a vocabulary; train the captioner again")
        return Vocabulary(words)

"""Captions to token ids and back; tokens are subwords (subword.py) or words (vocabulary.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from pipeline.text import subword, vocabulary


class Tokenizer(Protocol):
    """Ids 0 … ``size`` − 1; two tokenizers of one ``digest`` give the same ids."""

    size: int  # V
    begin: int
    pad: int
    end: int

    def encode(self, captions: Sequence[str], max_tokens: int) -> list[list[int]]:
        """One list ``begin … end`` a caption, at most ``max_tokens`` long with both of them."""

    def decode(self, ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Captions of N rows of ids, (N, L) or lists, each cut at its first ``end``."""

    def save(self, folder: Path) -> None:
        """Writes the one file that :func:`load` reads."""

    def digest(self) -> str:
        """SHA-256 of what the ids mean."""


def load(folder: Path) -> Tokenizer:
    """The tokenizer in a trained model's folder.

    Raises:
        EarwitnessError: it is missing or broken.
    """
    if (folder / vocabulary.FILE).exists():
        return vocabulary.Vocabulary.load(folder)
    return subword.SubwordTokenizer.load(folder)

"""Captions to token ids for a text tower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer as Backend

from pipeline.config.retrievers import TextTowerConfig
from pipeline.encoders import checkpoints
from pipeline.encoders.sources import Hub, locate
from pipeline.errors import EarwitnessError, one_line
from pipeline.files import read_text, write_atomic
from pipeline.text import subword
from pipeline.text.subword import FILE


class TextTokens(Protocol):
    """A tokenizer with ids 0 … ``size`` − 1."""

    size: int  # V
    pad: int

    def encode(self, captions: Sequence[str], max_tokens: int) -> list[list[int]]:
        """One list a caption, at most ``max_tokens`` long, with the model's special tokens."""

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json``, which :func:`load_tokens` reads."""


class PretrainedTokens:
    """A pretrained text model's tokenizer, with its special tokens, such as [CLS] and [SEP].

    It lower-cases captions if its model needs that.
    """

    def __init__(self, backend: Backend, source: str) -> None:
        """``backend``: its padding settings, used for the pad token alone."""
        padding = backend.padding
        if padding is None:
            raise EarwitnessError(f"{source}: a tokenizer without a pad token; give another model")
        self._pad_token = padding["pad_token"]
        self.pad: int = padding["pad_id"]
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self.size: int = backend.get_vocab_size(with_added_tokens=True)

    def encode(self, captions: Sequence[str], max_tokens: int) -> list[list[int]]:
        self.backend.enable_truncation(max_tokens)
        rows = [encoding.ids for encoding in self.backend.encode_batch(list(captions))]
        self.backend.no_truncation()
        return [row or [self.pad] for row in rows]

    def save(self, folder: Path) -> None:
        self.backend.enable_padding(pad_id=self.pad, pad_token=self._pad_token)
        text = self.backend.to_str(pretty=True)
        self.backend.no_padding()
        write_atomic(folder / FILE, text + "\n")

    @staticmethod
    def load(folder: Path) -> PretrainedTokens:
        """What :meth:`save` wrote."""
        path = folder / FILE
        hint = "train the retriever again"
        text = read_text(path, hint)
        with one_line(path, hint, "not a tokenizer"):
            backend = Backend.from_str(text)
        return PretrainedTokens(backend, str(path))


def make_tokens(settings: TextTowerConfig, captions: Sequence[str]) -> TextTokens:
    """The pretrained model's tokenizer or, from scratch, subwords trained on the captions.

    Raises:
        EarwitnessError: the model is not available, or has no fast tokenizer.
    """
    if settings.weights.kind == "scratch":
        return subword.train_subword(captions, settings.vocabulary)
    from transformers import AutoTokenizer

    location = located(settings)
    with checkpoints.reading(location):
        tokenizer = AutoTokenizer.from_pretrained(
            location, local_files_only=True, trust_remote_code=False
        )
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None or tokenizer.pad_token is None:
        raise EarwitnessError(f"{location}: no fast tokenizer with a pad token; give another model")
    backend = Backend.from_str(fast.to_str())
    backend.enable_padding(pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    return PretrainedTokens(backend, str(location))


def load_tokens(settings: TextTowerConfig, folder: Path) -> TextTokens:
    """What :meth:`TextTokens.save` wrote; works offline."""
    if settings.weights.kind == "scratch":
        return subword.SubwordTokenizer.load(folder)
    return PretrainedTokens.load(folder)


def located(settings: TextTowerConfig) -> Path:
    """The folder of a pretrained text model, downloaded if it is on the hub."""
    weights = settings.weights
    fetched = weights.kind == "package" or (weights.kind == "hub" and weights.name)
    if not fetched and not (weights.kind == "path" and Path(weights.name).is_dir()):
        raise EarwitnessError(
            f"text tower: no model in '{weights}'; give hub:owner/name, package:NAME, a folder "
            "written by save_pretrained, or scratch"
        )
    return locate(weights, "text tower", Hub())

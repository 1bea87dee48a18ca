"""Subword tokenizers: a byte-level BPE trained on the captions, or that of a pretrained model.

Both turn a caption into ``begin … end``, with ``<s>`` and ``</s>``. A pretrained BART's decoder
also reads a ``</s>`` before the ``<s>`` (its ``decoder_start_token_id``); only the model knows of
it and adds it (pipeline/models/decoders/bart.py), so that ``begin`` and ``end`` are two different
tokens.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex
from tokenizers import Tokenizer as Backend
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import Replace, Strip
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from pipeline.config.tokens import Punctuation
from pipeline.errors import EarwitnessError, one_line
from pipeline.files import read_text, write_atomic
from pipeline.weights import local_first

BEGIN, PAD, END, UNKNOWN = SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")  # BART's, in its order
FILE = "tokenizer.json"
TRAILING = r"[\s.!?,;:…]+$"


def normalise(caption: str) -> str:
    """Lower case, single spaces, no punctuation at the end.

    Captions are scored lower-cased and without punctuation, so a model need not learn them.
    """
    return re.sub(TRAILING, "", " ".join(caption.lower().split()))


class SubwordTokenizer:
    """Captions to ids and back; ids 0 … ``size`` − 1.

    Attributes:
        begin: id of ``<s>``; pad: of ``<pad>``; end: of ``</s>``; size: V.
    """

    def __init__(self, backend: Backend, source: str) -> None:
        """``source`` says where the backend comes from, for error messages."""
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # "<s>" in a caption is text, not a special token
        self.backend = backend
        self.begin = _id(backend, BEGIN, source)
        self.pad = _id(backend, PAD, source)
        self.end = _id(backend, END, source)
        self.size: int = backend.get_vocab_size(with_added_tokens=True)

    def encode(self, captions: Sequence[str], max_tokens: int) -> list[list[int]]:
        """One list ``begin … end`` a caption, at most ``max_tokens`` long with both of them.

        Captions are normalised first (:func:`normalise`); a longer one loses its last tokens.
        """
        if max_tokens < 3:
            raise EarwitnessError(f"max_tokens is {max_tokens}; give at least 3")
        texts = [normalise(caption) for caption in captions]
        encodings = self.backend.encode_batch(texts, add_special_tokens=False)
        return [[self.begin, *e.ids[: max_tokens - 2], self.end] for e in encodings]

    def decode(self, ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Captions of N rows of ids, (N, L) or lists, each cut at its first ``end``."""
        rows = ids.tolist() if isinstance(ids, Tensor) else [list(row) for row in ids]
        rows = [row[: row.index(self.end)] if self.end in row else row for row in rows]
        texts = self.backend.decode_batch(rows, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json``: the same bytes for the same tokenizer."""
        write_atomic(folder / FILE, self.backend.to_str(pretty=True) + "\n")

    def digest(self) -> str:
        """SHA-256 of what the ids mean."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    @staticmethod
    def load(folder: Path) -> SubwordTokenizer:
        """What :meth:`save` wrote."""
        path = folder / FILE
        hint = "train the captioner again"
        text = read_text(path, hint, made="a tokenizer")
        with one_line(path, hint, "not a tokenizer"):
            backend = Backend.from_str(text)
        return SubwordTokenizer(backend, str(path))


def _id(backend: Backend, token: str, source: str) -> int:
    index = backend.token_to_id(token)
    if index is None:
        raise EarwitnessError(f"{source}: no token {token}; give a tokenizer in BART's form")
    return index


def without_punctuation(backend: Backend) -> None:
    """Makes a tokenizer leave out ASCII's punctuation, as DCASE 2022's baseline (CMU 5.1) does.

    It is written into the tokenizer's file, so that whoever loads it leaves it out too.
    """
    own = [] if backend.normalizer is None else [backend.normalizer]
    marks = Replace(Regex(f"[{re.escape(string.punctuation)}]"), "")
    backend.normalizer = Normalizers([marks, Replace(Regex(" +"), " "), Strip(), *own])


def train_subword(
    captions: Sequence[str], vocabulary: int, punctuation: Punctuation = "inside"
) -> SubwordTokenizer:
    """A byte-level BPE of at most ``vocabulary`` tokens, the special ones included.

    The alphabet is that of the captions, not all 256 bytes: a byte that training never saw becomes
    ``<unk>`` rather than an untrained embedding. A merge must occur twice, so a small corpus gives
    fewer tokens than ``vocabulary``. The same captions in the same order give the same bytes.

    Raises:
        EarwitnessError: no captions, or a vocabulary that cannot hold the alphabet.
    """
    backend = Backend(BPE(unk_token=UNKNOWN))
    if punctuation == "none":
        without_punctuation(backend)
    texts = [_written(backend, text) for text in map(normalise, captions)]
    texts = [text for text in texts if text]
    if not texts:
        raise EarwitnessError("subword tokenizer: no captions to train on")
    alphabet = {byte for text in texts for byte in f" {text}".encode()}
    if vocabulary < len(alphabet) + len(SPECIALS):
        raise EarwitnessError(
            f"the vocabulary is {vocabulary}, but the captions have {len(alphabet)} different "
            f"bytes; give at least {len(alphabet) + len(SPECIALS)}"
        )
    backend.pre_tokenizer = ByteLevel(add_prefix_space=True)
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(SPECIALS),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer, length=len(texts))
    return SubwordTokenizer(backend, "subword tokenizer")


def _written(backend: Backend, text: str) -> str:
    """What a tokenizer reads of a text."""
    return text if backend.normalizer is None else str(backend.normalizer.normalize_str(text))


def pretrained(
    name_or_path: str, section: str = "bart", punctuation: Punctuation = "inside"
) -> SubwordTokenizer:
    """The tokenizer of a pretrained BART or GPT-2, by hub name (``facebook/bart-base``) or folder.

    A GPT-2 has one token for begin, padding and end: BART's three are added to it.

    Args:
        section: the part of the parameters that names it, for error messages.
    """
    from transformers import AutoTokenizer

    def load(local: bool) -> Any:
        return AutoTokenizer.from_pretrained(
            name_or_path, local_files_only=local, trust_remote_code=False
        )

    hint = "give a folder that has one, or null to train from scratch"
    with one_line(f"{section}.pretrained", hint, f"no tokenizer '{name_or_path}'"):
        tokenizer = local_first(load, name_or_path)
        backend = Backend.from_str(tokenizer.backend_tokenizer.to_str())
    if section == "prefix":
        missing = [name for name in (BEGIN, PAD, END) if backend.token_to_id(name) is None]
        backend.add_special_tokens(missing)
    if punctuation == "none":
        without_punctuation(backend)
    return SubwordTokenizer(backend, name_or_path)

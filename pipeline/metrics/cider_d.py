"""CIDEr-D without Java: references are prepared ("cooked") once, candidates are scored as arrays.

Vedantam et al. 2015, "CIDEr: Consensus-based image description evaluation"; the variant with
clipping and a Gaussian length penalty that pycocoevalcap's `Cider` computes: n ≤ 4, σ = 6, × 10.
Equal to it up to rounding. Also the reward of SCST.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EarwitnessError
from pipeline.metrics.types import ClipScores, Values, averaged, divided

ORDERS = 4  # n-grams of 1 to 4 words
SIGMA = 6.0  # of the Gaussian on the difference of lengths
SCALE = 10.0

Ints = NDArray[np.int64]
Sentence = Sequence[Hashable]  # words, or token ids


class UnweightedError(EarwitnessError):
    """CIDEr-D cannot be made: no n-gram tells one row of references from another."""


class _Grams(NamedTuple):
    """The distinct n-grams of one order in each of S sentences, by sentence, then by number."""

    sentence: Ints  # (G,)
    number: Ints  # (G,) index among the known n-grams of this order, or beyond them
    times: Ints  # (G,) how often the sentence has it


class _Cooked(NamedTuple):
    """All n-grams of one order in the references."""

    known: Ints  # (V,) keys, sorted
    idf: Values  # (V,) log(documents / documents that contain it)
    grams: _Grams
    weight: Values  # (G,) times × idf
    norm: Values  # (S,)
    starts: Ints  # (S + 1,) where each sentence's n-grams begin


class CiderD:
    """Scores candidates against fixed references.

    Args:
        references: N rows of one or more tokenized captions, words with spaces between.
        document_frequency: rows for the document frequencies; by default ``references``, as in the
            field's evaluation.

    Raises:
        ValueError: no rows, or one without references.
        UnweightedError: each n-gram of ``document_frequency`` is in all of its rows, as it is where
            there is one row only: then all weights are log 1 = 0, and so is every score, even that
            of a reference itself.
    """

    def __init__(
        self,
        references: Sequence[Sequence[str]],
        document_frequency: Sequence[Sequence[str]] | None = None,
    ) -> None:
        documents = None if document_frequency is None else _split(document_frequency)
        self._cook(_split(references), documents)

    @classmethod
    def from_tokens(
        cls,
        references: Sequence[Sequence[Sentence]],
        document_frequency: Sequence[Sequence[Sentence]] | None = None,
    ) -> CiderD:
        """A scorer of token ids, for :meth:`score_tokens`."""
        scorer = cls.__new__(cls)
        scorer._cook(references, document_frequency)
        return scorer

    def score(self, candidates: Sequence[str], rows: Sequence[int] | None = None) -> ClipScores:
        """CIDEr-D of C candidates.

        Args:
            candidates: C tokenized captions.
            rows: each candidate's row of references; a row may occur several times. By default
                candidate n has row n.
        """
        return self.score_tokens([caption.split() for caption in candidates], rows)

    def score_tokens(
        self, candidates: Sequence[Sentence], rows: Sequence[int] | None = None
    ) -> ClipScores:
        """As :meth:`score`, of words or token ids (in SCST with the end of sentence)."""
        if rows is None and len(candidates) != len(self._row_size):
            raise ValueError(f"{len(candidates)} candidates for {len(self._row_size)} rows")
        row = np.arange(len(candidates)) if rows is None else np.asarray(rows, dtype=np.int64)
        tokens, lengths = self._numbered(candidates)
        # every candidate with each of its row's references: P pairs
        candidate, sentence = _expand(self._row_start[row], self._row_size[row])
        total = np.zeros(len(candidate))
        for cooked, (_, grams) in zip(self._orders, self._grams(tokens, lengths), strict=True):
            weight, norm = _weighted(grams, cooked.idf, self._log_documents, len(candidates))
            dot = _clipped_dot(cooked, grams, weight, candidate, sentence)
            total += divided(dot, norm[candidate] * cooked.norm[sentence])
        penalty = _penalty(_bigrams(lengths)[candidate] - self._bigrams[sentence])
        summed = np.bincount(candidate, total * penalty, minlength=len(candidates))
        found = averaged(summed * SCALE / ORDERS / self._row_size[row])
        return found._replace(cider_d=np.ones(len(candidates)))

    def score_constant(self, candidates: Sequence[str]) -> Values:
        """The corpus CIDEr-D of each of C candidates if it were the caption of every row.

        The clipped product min(h, r) · r of an n-gram that occurs h and r times (both × idf) is
        Σ_t [h ≥ t · idf] [r ≥ t · idf] r · idf, linear in the reference, and the length penalty
        depends only on the two lengths. So references of one length are summed first, and each
        candidate is compared with all rows at once.

        Returns:
            (C,) in the order of ``candidates``.
        """
        tokens, lengths = self._numbered([caption.split() for caption in candidates])
        share = np.repeat(1 / (self._row_size * len(self._row_size)), self._row_size)
        classes, length_class = np.unique(self._bigrams, return_inverse=True)
        penalty = _penalty(_bigrams(lengths)[:, None] - classes)  # (C, lengths)
        total = np.zeros(len(candidates))
        for cooked, (_, grams) in zip(self._orders, self._grams(tokens, lengths), strict=True):
            _, norm = _weighted(grams, cooked.idf, self._log_documents, len(candidates))
            scale = divided(share, cooked.norm)
            shape = (len(candidates), len(classes))
            dots = _dots_by_length(cooked, grams, scale, length_class, shape)
            total += divided((dots * penalty).sum(axis=1), norm)
        return total * SCALE / ORDERS

    def _cook(
        self,
        references: Sequence[Sequence[Sentence]],
        documents: Sequence[Sequence[Sentence]] | None,
    ) -> None:
        if not references or not all(references):
            raise ValueError("CIDEr-D needs rows of at least one reference")
        corpus = references if documents is None else documents
        sentences = [*chain.from_iterable(chain(references, documents or ()))]
        words = dict.fromkeys(chain.from_iterable(sentences))
        self._words: dict[Hashable, int] = {word: number for number, word in enumerate(words)}
        self._orders: list[_Cooked] = []
        tokens, lengths = self._numbered(sentences)
        self._log_documents = float(np.log(len(corpus)))
        self._row_size = np.array([len(row) for row in references])
        self._row_start = np.cumsum(self._row_size) - self._row_size
        size = int(self._row_size.sum())  # the first sentences are the references
        self._bigrams = _bigrams(lengths)[:size]
        document = np.repeat(np.arange(len(corpus)), [len(row) for row in corpus])
        for known, grams in self._grams(tokens, lengths):
            first = 0 if documents is None else size
            counted = grams.sentence >= first
            owner = document[grams.sentence[counted] - first]
            contained = np.unique(owner * len(known) + grams.number[counted])
            frequency = np.bincount(contained % max(len(known), 1), minlength=len(known))
            idf = self._log_documents - np.log(np.maximum(frequency, 1.0))
            cooked = _Grams(*(values[grams.sentence < size] for values in grams))
            weight, norm = _weighted(cooked, idf, self._log_documents, size)
            starts = np.searchsorted(cooked.sentence, np.arange(size + 1))
            self._orders.append(_Cooked(known, idf, cooked, weight, norm, starts))
        if any(map(any, corpus)) and not any((order.idf > 0).any() for order in self._orders):
            raise UnweightedError(
                f"CIDEr-D of {_plural(len(corpus), 'clip')}: each n-gram is in the references of "
                "all, so that all weights are log 1 = 0; give clips with different references"
            )

    def _numbered(self, sentences: Sequence[Sentence]) -> tuple[Ints, Ints]:
        """The numbers of all words, one sentence after another, and (S,) lengths; new words too."""
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
        words = [*chain.from_iterable(sentences)]
        tokens = np.array([self._words.get(word, -1) for word in words], dtype=np.int64)
        new: dict[Hashable, int] = {}
        for place in np.flatnonzero(tokens < 0).tolist():
            tokens[place] = new.setdefault(words[place], len(self._words) + len(new))
        return tokens, lengths

    def _grams(self, tokens: Ints, lengths: Ints) -> Iterator[tuple[Ints, _Grams]]:
        """For each order the keys of the known n-grams, and the n-grams of the sentences.

        An n-gram's key is the number of its first n - 1 words and that of its last word. While the
        references are cooked, all n-grams are known.
        """
        sentence = np.repeat(np.arange(len(lengths)), lengths)
        left = np.cumsum(lengths)[sentence] - np.arange(len(tokens))  # words from here to the end
        start = np.arange(len(tokens))
        number = np.zeros_like(tokens)
        cooking = not self._orders
        for order in range(ORDERS):
            whole = left[start] > order
            start, number = start[whole], number[whole]
            key = (number << 32) | tokens[start + order]
            known = np.unique(key) if cooking else self._orders[order].known
            number = _places(known, key)
            yield known, _counted(sentence[start], number)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _split(rows: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    return [[caption.split() for caption in row] for row in rows]


def _bigrams(lengths: Ints) -> Ints:
    """The length in the penalty: pycocoevalcap counts a caption's bigrams."""
    return np.maximum(lengths - 1, 0)


def _penalty(difference: Ints) -> Values:
    return np.exp(-(difference**2) / (2 * SIGMA**2))


def length_penalty(candidate: Ints, reference: Ints) -> Values:
    """The Gaussian penalty of lengths in words, of the same shape."""
    return _penalty(_bigrams(candidate) - _bigrams(reference))


def _expand(starts: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    """The ranges ``starts[i] … starts[i] + sizes[i]`` one after another: (owner i, place)."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    first = np.cumsum(sizes) - sizes
    return owner, starts[owner] + np.arange(len(owner)) - first[owner]


def _places(known: Ints, key: Ints) -> Ints:
    """Each key's index in ``known``; other keys get indices beyond it."""
    place = np.searchsorted(known, key)
    found = np.zeros(len(key), dtype=bool)
    inside = place < len(known)
    found[inside] = known[place[inside]] == key[inside]
    if not found.all():
        place[~found] = len(known) + np.unique(key[~found], return_inverse=True)[1]
    return place


def _counted(sentence: Ints, number: Ints) -> _Grams:
    stride = int(number.max(initial=0)) + 1
    both, times = np.unique(sentence * stride + number, return_counts=True)
    return _Grams(both // stride, both % stride, times)


def _weighted(
    grams: _Grams, idf: Values, log_documents: float, sentences: int
) -> tuple[Values, Values]:
    """(G,) times × idf, and (S,) its norm; an n-gram of no document counts as that of one."""
    inside = grams.number < len(idf)
    weight = grams.times * log_documents
    weight[inside] = grams.times[inside] * idf[grams.number[inside]]
    norm = np.sqrt(np.bincount(grams.sentence, weight**2, minlength=sentences))
    return weight.astype(np.float64), norm.astype(np.float64)


def _clipped_dot(
    cooked: _Cooked, grams: _Grams, weight: Values, candidate: Ints, sentence: Ints
) -> Values:
    """(P,) Σ min(h, r) · r over the n-grams that a pair's candidate and reference share."""
    stride = max(len(cooked.known), int(grams.number.max(initial=0)) + 1)
    known = grams.sentence * stride + grams.number
    pair, entry = _expand(cooked.starts[sentence], np.diff(cooked.starts)[sentence])
    query = candidate[pair] * stride + cooked.grams.number[entry]
    place = np.searchsorted(known, query)
    place[place == len(known)] = 0
    shared = known[place] == query if len(known) else np.zeros(len(query), dtype=bool)
    reference = cooked.weight[entry[shared]]
    products = np.minimum(weight[place[shared]], reference) * reference
    dots: Values = np.bincount(pair[shared], products, minlength=len(candidate)).astype(float)
    return dots


def _dots_by_length(
    cooked: _Cooked, grams: _Grams, scale: Values, length_class: Ints, shape: tuple[int, int]
) -> Values:
    """(C, lengths) Σ min(h, r) · r · scale over all references of one length."""
    from scipy.sparse import csr_array

    reference = cooked.grams
    values = scale[reference.sentence] * cooked.weight * cooked.idf[reference.number]
    known = grams.number < len(cooked.known)
    total = np.zeros(shape)
    most = min(reference.times.max(initial=0), grams.times[known].max(initial=0))
    for times in range(1, int(most) + 1):
        often, candidate = reference.times >= times, known & (grams.times >= times)
        place = (length_class[reference.sentence[often]], reference.number[often])
        summed = csr_array((values[often], place), shape=(shape[1], len(cooked.known)))
        ones = np.ones(int(candidate.sum()))
        place = (grams.sentence[candidate], grams.number[candidate])
        chosen = csr_array((ones, place), shape=(shape[0], len(cooked.known)))
        total += (chosen @ summed.T).toarray()
    return total

"""The reward of self-critical training: a weighted sum of terms, scored in batches.

Hypotheses and references are PTB tokens in lower case. CIDEr-D and BLEU-4 read an end-of-sentence
token after them, as in the reference code of self-critical training: a fragment that stops before
a reference's end lacks the n-grams with that token. (SJTU's code leaves it out, and takes document
frequencies from the references of the batch: both reward fragments.) A hypothesis that was cut at
the longest length has no such token.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.bleu.bleu_scorer import BleuScorer, cook_refs, cook_test

from pipeline.config.training import ScstConfig
from pipeline.errors import EarwitnessError
from pipeline.metrics import sbert
from pipeline.metrics.cider_d import CiderD, UnweightedError
from pipeline.metrics.diversity import diversity
from pipeline.metrics.types import Values
from pipeline.text.ptb import ptb_tokens, tokenize
from pipeline.weights import Weights

END = "<eos>"
BLEU_ORDERS = 4
# The "bad endings" of self-critical captioning code without the words with which people do end
# captions ("a car drives by", "is turned on"): of the captions of Clotho and AudioCaps with one of
# these words, fewer than 1 in 100 end in it.
BAD_ENDINGS = frozenset(
    (
        *("a", "an", "the", "this", "these", "those", "its", "his", "their", "some", "several"),
        *("and", "or", "but", "as", "while", "then", "than", "if", "when", "where", "which", "who"),
        *("in", "of", "with", "to", "for", "at", "from", "into", "onto", "during", "against"),
        *("is", "are", "was", "were", "be", "being", "been", "has", "have", "very", "before"),
    )
)


class References(NamedTuple):
    """What the terms compare hypotheses with; each term prepares ("cooks") them once."""

    captions: tuple[tuple[str, ...], ...]  # each clip's, as PTB tokens with spaces between
    sbert: Weights | None  # weights of the sbert term
    device: str  # where they compute


class Hypothesis(NamedTuple):
    """One caption, not empty."""

    text: str  # PTB tokens with spaces between
    clip: int  # its row of references
    ended: bool  # false where it was cut at the longest length


Scorer = Callable[[Sequence[Hypothesis]], Values]


class Term(NamedTuple):
    """One kind of reward."""

    cook: Callable[[References], Scorer]
    sign: float  # −1 where less is better
    worst: float  # the value of an empty caption, before the sign


def _cider_d(references: References) -> Scorer:
    """0 … 10, with the document frequencies of all ``references``."""
    try:
        scorer = CiderD.from_tokens([[_ended(text) for text in row] for row in references.captions])
    except UnweightedError as error:
        raise EarwitnessError(f"{error}, or set scst.rewards.cider_d to 0") from None

    def score(found: Sequence[Hypothesis]) -> Values:
        clips = [one.clip for one in found]
        return scorer.score_tokens([_sentence(one) for one in found], clips).clips

    return score


def _bleu_4(references: References) -> Scorer:
    """0 … 1, sentence BLEU with pycocoevalcap's smoothing."""

    def score(found: Sequence[Hypothesis]) -> Values:
        cooked = {
            clip: cook_refs([" ".join(_ended(text)) for text in references.captions[clip]])
            for clip in {one.clip for one in found}
        }
        scorer = BleuScorer(n=BLEU_ORDERS)
        scorer.ctest = [cook_test(" ".join(_sentence(one)), cooked[one.clip]) for one in found]
        _, clips = scorer.compute_score(option="closest", verbose=0)
        return np.array(clips[-1])

    return score


def _sbert(references: References) -> Scorer:
    """−1 … 1, the mean cosine with the clip's references."""
    assert references.sbert is not None
    model = sbert.load(references.sbert, references.device)

    def vectors(texts: Sequence[str], bar: bool = False) -> NDArray[np.float32]:
        """(N, D), unit."""
        found = model.encode(
            list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=bar
        )
        return np.asarray(found, dtype=np.float32)

    distinct = sorted({text for row in references.captions for text in row})
    place = {text: number for number, text in enumerate(distinct)}
    embedded = vectors(distinct, bar=sys.stderr.isatty())  # minutes for a large corpus on a CPU
    # the mean of the cosines is the product with the mean
    means = np.stack(
        [embedded[[place[text] for text in row]].mean(axis=0) for row in references.captions]
    )

    def score(found: Sequence[Hypothesis]) -> Values:
        products = vectors([one.text for one in found]) * means[[one.clip for one in found]]
        return products.sum(axis=1, dtype=np.float64)

    return score


def _repetition(references: References) -> Scorer:
    """0 … 1, the share of word pairs that occurred before."""
    return lambda found: diversity([one.text for one in found]).repetition.clips


def _bad_ending(references: References) -> Scorer:
    """1 where the last word cannot end a sentence, else 0."""

    def score(found: Sequence[Hypothesis]) -> Values:
        return np.array([float(one.text.split()[-1] in BAD_ENDINGS) for one in found])

    return score


TERMS: dict[str, Term] = {  # the fields of `rewards`
    "cider_d": Term(_cider_d, 1, 0),
    "bleu_4": Term(_bleu_4, 1, 0),
    "sbert": Term(_sbert, 1, -1),
    "repetition": Term(_repetition, -1, 1),
    "bad_ending": Term(_bad_ending, -1, 1),
}


class Reward:
    """Scores captions against fixed references.

    Args:
        references: each training clip's captions, not tokenized.
        settings: the terms' weights; a term of weight 0 is not computed.
        device: of the sbert term.

    Raises:
        EarwitnessError: the weights of the sbert term are not available; or CIDEr-D of these
            references cannot be made, such as of one clip, and is asked for.
    """

    def __init__(
        self, references: Sequence[Sequence[str]], settings: ScstConfig, device: str
    ) -> None:
        captions = tuple(tuple(tokenize(row)) for row in references)
        cooked_from = References(captions, settings.sbert, device)
        weights = settings.rewards.model_dump()
        self._terms = [
            (weights[name] * term.sign, term.worst, term.cook(cooked_from))
            for name, term in TERMS.items()
            if weights[name]
        ]

    def __call__(
        self, captions: Sequence[str], clips: Sequence[int], ended: Sequence[bool]
    ) -> Values:
        """(N,) rewards; each different caption of a clip is scored once.

        Args:
            captions: N, as a tokenizer decodes them. clips: N, each caption's row of references.
            ended: N, false where the caption was cut at the longest length.
        """
        texts = {caption: " ".join(ptb_tokens(caption)) for caption in set(captions)}
        found = [
            Hypothesis(texts[caption], clip, end)
            for caption, clip, end in zip(captions, clips, ended, strict=True)
        ]
        place = {one: at for at, one in enumerate(dict.fromkeys(found))}
        return self._score([*place])[[place[one] for one in found]]

    def _score(self, found: Sequence[Hypothesis]) -> Values:
        nonempty = np.array([bool(one.text) for one in found], dtype=bool)
        scored = [one for one in found if one.text]
        total = np.zeros(len(found))
        for weight, worst, scorer in self._terms:
            values = np.full(len(found), float(worst))
            if scored:
                values[nonempty] = scorer(scored)
            total += weight * values
        return total


def _ended(text: str) -> list[str]:
    return [*text.split(), END]


def _sentence(one: Hypothesis) -> list[str]:
    """The words, and the end-of-sentence token where the hypothesis ended."""
    return _ended(one.text) if one.ended else one.text.split()

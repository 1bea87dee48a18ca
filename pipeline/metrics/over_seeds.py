"""Systems trained with several seeds: all are scored at once, and their metrics averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.config.evaluation import EvaluationConfig
from pipeline.metrics.evaluate import Tools, evaluate_sets
from pipeline.metrics.resampling import Measured
from pipeline.metrics.results import Evaluated, Scores
from pipeline.metrics.types import ScoredSet


class ScoredCaptions(NamedTuple):
    """One system with one seed."""

    captions: Sequence[str]  # N
    scores: Scores

    @property
    def corpus(self) -> dict[str, float]:
        return self.scores.corpus

    @property
    def measured(self) -> Measured:
        return self.scores.measured()


BySeed = Mapping[int, ScoredCaptions]


def evaluate_seeds(
    systems: Mapping[str, Mapping[int, ScoredSet]], settings: EvaluationConfig, tools: Tools
) -> tuple[dict[str, BySeed], Evaluated]:
    """All systems with all of their seeds, as if each pair were a system; see `evaluate_sets`.

    Returns:
        The scores by system and seed; and what is missing, where a system of several seeds is
        named with its seed.
    """
    names = {
        (system, seed): system if len(seeds) == 1 else f"{system} (seed {seed})"
        for system, seeds in systems.items()
        for seed in seeds
    }
    sets = {name: systems[system][seed] for (system, seed), name in names.items()}
    result = evaluate_sets(sets, settings, tools)
    found: dict[str, BySeed] = {
        system: {
            seed: ScoredCaptions(chosen.candidates, result.scores[names[system, seed]])
            for seed, chosen in seeds.items()
        }
        for system, seeds in systems.items()
    }
    return found, result


def unscored(captions: Mapping[str, Mapping[int, Sequence[str]]]) -> dict[str, BySeed]:
    """Systems whose captions have nothing to be compared with: the number of clips alone.

    Args:
        captions: by system and seed; N each.
    """
    return {
        system: {seed: ScoredCaptions(own, Scores({"N": len(own)})) for seed, own in seeds.items()}
        for system, seeds in captions.items()
    }


def mean_over_seeds(seeds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The metrics that every seed has, with six decimals; whole numbers stay so, or get one.

    Args:
        seeds: by metric, counts too, of each seed.
    """
    first, *others = seeds
    return {
        name: _mean([own[name] for own in seeds])
        for name in first
        if all(name in own for own in others)
    }


def _mean(values: Sequence[float]) -> float:
    if not all(isinstance(value, int) for value in values):
        return round(sum(values) / len(values), 6)
    mean = round(sum(values) / len(values), 1)
    return int(mean) if mean == int(mean) else mean

"""Captioning systems that are compared: their captions scored by today's code.

BLEU, METEOR, ROUGE-L and CIDEr-D are computed anew, from captions and references, so that both
sides have one definition. SPICE, SBERT, FENSE and fluency errors are read as `evaluate` left them,
clip by clip: they take long, and their names say with which weights they were made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from earwitness.comparing.loaded import ComparedSystem, Loaded
from earwitness.comparing.sources import Source
from pipeline.config.evaluation import EvaluationConfig
from pipeline.errors import EarwitnessError
from pipeline.metrics.evaluate import Tools
from pipeline.metrics.over_seeds import BySeed, evaluate_seeds
from pipeline.metrics.results import Scores
from pipeline.metrics.spider import spider
from pipeline.metrics.types import ScoredSet, Values, averaged
from pipeline.tables import Row, read_rows

ANEW = ("bleu_", "rouge_l", "cider_d", "meteor", "mean_length", "repetition")
FLUENCY = ("fluency_error", "fense", "spider_fl")
LIMITS = ("fluency", "fluency_threshold", "fluency_penalty")  # settings of those
SAME = 1e-6  # two values that are one but for rounding


def load(
    sides: Sequence[ComparedSystem], dataset: str, settings: EvaluationConfig, tools: Tools
) -> Loaded:
    """All sides' scores of the clips that they have in common.

    Raises:
        EarwitnessError: results are not there, or runs have nothing in common.
    """
    warnings: list[str] = []
    runs = [read_run(side, dataset) for side in sides]
    clips, seeds = in_common(runs, warnings)
    found = scored(runs, clips, seeds, settings, tools, warnings)
    said = {
        run.label: {clip: run.rows[seeds[0]][clip].values["caption"] for clip in clips}
        for run in runs
    }
    return Loaded(found, clips, seeds, warnings, said, runs[0].references)


class CaptionRun(NamedTuple):
    """What a system wrote of a test set at one time."""

    label: str
    rows: dict[int, dict[str, Row]]  # seed → clip → its row of data/scores
    references: dict[str, tuple[str, ...]]
    metrics: list[str]  # columns of the rows
    settings: Mapping[str, object]  # the section ``evaluation``


def read_run(side: ComparedSystem, dataset: str) -> CaptionRun:
    """Captions and per-clip values, by seed.

    Raises:
        EarwitnessError: they are not there, or the test set is blind.
    """
    source = side.source
    manifest = side.manifest(dataset, "references")
    path = source.path(f"data/scores/{dataset}/{side.system}.csv", f"evaluate@{dataset}")
    rows: dict[int, dict[str, Row]] = {}
    table = read_rows(path, ["clip_id", "caption"])
    for row in table:
        seed = seed_of(row, source)
        rows.setdefault(seed, {})[row.values["clip_id"]] = row
    references = {clip.clip_id: clip.captions for clip in manifest.clips}
    metrics = [n for n in table[0].values if n not in ("seed", "clip_id", "caption")]
    settings = source.params.get("evaluation")
    own = settings if isinstance(settings, Mapping) else {}
    return CaptionRun(side.label, rows, references, metrics, own)


def seed_of(row: Row, source: Source) -> int:
    """A row's; tables had no seeds before params.yaml had several."""
    params = source.params
    found = row.values.get("seed") or params.get("seed") or params.get("seeds") or 1
    found = found[0] if isinstance(found, list) else found
    try:
        return int(str(found))
    except ValueError:
        raise EarwitnessError(
            f"line {row.line} of {source.label or 'the scores'}: seed {found!r} is no number; run "
            "`dvc repro evaluate`"
        ) from None


def in_common(runs: Sequence[CaptionRun], warnings: list[str]) -> tuple[list[str], list[int]]:
    """The clips and the seeds that all runs have; clips whose references changed are left out.

    Raises:
        EarwitnessError: fewer than two clips, or no seed.
    """
    seeds = [seed for seed in runs[0].rows if all(seed in run.rows for run in runs)]
    if not seeds:
        each = "; ".join(f"{run.label}: {', '.join(map(str, run.rows))}" for run in runs)
        raise EarwitnessError(f"no seed in common ({each}); train one with a seed of the other")
    if any(len(run.rows) > len(seeds) for run in runs):
        warnings.append(f"compared with the seeds that all have: {', '.join(map(str, seeds))}")
    tables = [run.rows[seed] for run in runs for seed in seeds]
    known = runs[0].references
    clips = [
        clip
        for clip in tables[0]
        if all(clip in table for table in tables)
        and all(run.references.get(clip) == known.get(clip) for run in runs)
        and known.get(clip)
    ]
    if len(clips) < 2:
        raise EarwitnessError(
            f"{len(clips)} clips with the same references in {runs[0].label} and "
            f"{runs[-1].label}; compare runs of one test set"
        )
    if (left := max(len(table) for table in tables) - len(clips)) > 0:
        warnings.append(
            f"{left} clips are left out: not all have them, or their references changed"
        )
    return clips, seeds


def scored(
    runs: Sequence[CaptionRun],
    clips: Sequence[str],
    seeds: Sequence[int],
    settings: EvaluationConfig,
    tools: Tools,
    warnings: list[str],
) -> dict[str, BySeed]:
    """The runs' scores of these clips, by label and seed."""
    references = [runs[0].references[clip] for clip in clips]
    sets = {
        run.label: {
            seed: ScoredSet([run.rows[seed][c].values["caption"] for c in clips], references)
            for seed in seeds
        }
        for run in runs
    }
    quick = settings.model_copy(update={"spice": False, "sbert": None, "fluency": None})
    found, result = evaluate_seeds(sets, quick, tools)
    warnings += [
        f"{metric}: {why}"
        for metric, why in {**result.missing, **result.incomplete}.items()
        if metric.startswith(ANEW)
    ]
    kept = _kept(runs, warnings)
    for run in runs:
        for seed in seeds:
            scores = found[run.label][seed].scores
            _check_stored(run, scores, [run.rows[seed][clip] for clip in clips], warnings)
            for metric in kept:
                values = _column([run.rows[seed][clip] for clip in clips], metric)
                if not np.isnan(values).all():
                    scores.put(metric, averaged(values))
            if {"cider_d", "spice"} <= scores.clips.keys():
                scores.put("spider", spider(scores.get("cider_d"), scores.get("spice")))
    return found


def _kept(runs: Sequence[CaptionRun], warnings: list[str]) -> list[str]:
    """The stored metrics that all runs have, in one definition."""
    first = runs[0]
    stored = [m for m in first.metrics if not m.startswith(ANEW) and m != "spider"]
    lacking = dict.fromkeys(
        metric
        for run in runs
        for metric in run.metrics
        if any(metric not in r.metrics for r in runs)
    )
    for metric in lacking:
        if not metric.startswith(ANEW):
            have = [run.label for run in runs if metric in run.metrics]
            warnings.append(f"{metric} is left out: only {', '.join(have)} has it")
    limits = [[run.settings.get(name) for name in LIMITS] for run in runs]
    if any(own != limits[0] for own in limits):
        warnings.append("metrics of fluency are left out: their settings in `evaluation` differ")
        stored = [metric for metric in stored if not metric.startswith(FLUENCY)]
    return [metric for metric in stored if metric not in lacking]


def _column(rows: Sequence[Row], metric: str) -> Values:
    """(N,) NaN where a cell is empty."""
    try:
        return np.array([float(row.values.get(metric) or "nan") for row in rows])
    except ValueError as error:
        raise EarwitnessError(f"column {metric}: {error}; run `dvc repro evaluate`") from None


def _check_stored(
    run: CaptionRun, scores: Scores, rows: Sequence[Row], warnings: list[str]
) -> None:
    """Says which metrics had other values when the run was scored."""
    if len(rows) < max(map(len, run.rows.values())):
        return  # CIDEr-D of other clips is another
    for metric in run.metrics:
        if not metric.startswith(ANEW) or metric not in scores.clips:
            continue
        stored = _column(rows, metric)
        if np.nanmax(np.abs(stored - scores.clips[metric]), initial=0) > SAME:
            warnings.append(
                f"{metric} of {run.label} is {scores.corpus[metric]:.4f} by today's code, which is "
                f"compared; clips had other values when it was scored"
            )

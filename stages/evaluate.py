"""Scores all systems of a test set, and the yardsticks: ``python -m stages.evaluate <dataset>``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.plans import EvaluationPlan
from pipeline.corpora.manifest import Manifest
from pipeline.device import set_up
from pipeline.metrics.evaluate import evaluate_sets, find_tools
from pipeline.metrics.results import unscored
from pipeline.metrics.tables import read_predictions, table, write_scores
from pipeline.metrics.types import ScoredSet
from pipeline.metrics.yardsticks import yardsticks
from stages import paths
from stages.run import given, run


def main(dataset: str) -> None:
    """Writes metrics/<dataset>/<system>.json and data/scores/<dataset>/<system>.csv.

    Of a blind set these have the number of clips, and the captions, alone.
    """
    plan = given(EvaluationPlan, paths.PLANS / "systems" / f"{dataset}.json")
    manifest = Manifest.load(paths.CORPORA / f"{dataset}.json")
    clips = manifest.recordings(plan.evaluation.split)
    ids = [clip.clip_id for clip in clips]
    candidates = {
        system: _of_first_seed(
            paths.PREDICTIONS / dataset / f"{system}.csv",
            ids,
            plan.seeds[system][:1],
            f"run `dvc repro decode@{dataset}-{system}`",
        )
        for system in plan.systems
    }
    metrics, scores = paths.METRICS / dataset, paths.SCORES / dataset
    if manifest.blind:
        write_scores(unscored(candidates), ids, candidates, metrics, scores)
        print(f"{dataset}: {len(ids)} clips; no scores, as a blind set has no references")
        return
    references = [clip.captions for clip in clips]
    sets = {system: ScoredSet(own, references) for system, own in candidates.items()}
    features = {name: paths.FEATURES / dataset / f"{name}.h5" for name in plan.encoders}
    baselines, missing = yardsticks(manifest, plan.evaluation.split, features)
    device = set_up(plan.hardware.device, plan.hardware.threads)
    tools = find_tools(paths.SPICE, paths.SPICE_CACHE, str(device))
    result = evaluate_sets(sets | baselines, plan.evaluation, tools)
    result.missing |= missing
    captions = {name: chosen.candidates for name, chosen in (sets | baselines).items()}
    write_scores(result, ids, captions, metrics, scores)
    print(table(result))


def _of_first_seed(path: Path, ids: Sequence[str], seeds: Sequence[int], hint: str) -> list[str]:
    return read_predictions(path, ids, seeds, hint)[seeds[0]]


if __name__ == "__main__":
    run(main)

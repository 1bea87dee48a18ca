"""Scores all systems of a test set, and the yardsticks: ``python -m stages.evaluate <dataset>``."""

from __future__ import annotations

from pipeline.config.plans import EvaluationPlan
from pipeline.corpora.manifest import Manifest
from pipeline.device import set_up
from pipeline.metrics.evaluate import evaluate_sets, find_tools
from pipeline.metrics.tables import read_predictions, table, write_scores
from pipeline.metrics.types import ScoredSet
from pipeline.metrics.yardsticks import yardsticks
from stages import paths
from stages.run import run


def main(dataset: str) -> None:
    """Writes metrics/<dataset>/<system>.json and data/scores/<dataset>/<system>.csv."""
    plan = EvaluationPlan.load(paths.PLANS / "systems" / f"{dataset}.json")
    manifest = Manifest.load(paths.CORPORA / f"{dataset}.json")
    clips = manifest.split(plan.evaluation.split)
    ids = [clip.clip_id for clip in clips]
    references = [clip.captions for clip in clips]
    sets = {}
    for system in plan.systems:
        path = paths.PREDICTIONS / dataset / f"{system}.csv"
        hint = f"run `dvc repro decode@{dataset}-{system}`"
        sets[system] = ScoredSet(read_predictions(path, ids, hint), references)
    features = {name: paths.FEATURES / dataset / f"{name}.h5" for name in plan.encoders}
    baselines, missing = yardsticks(manifest, plan.evaluation.split, features)
    device = set_up(plan.hardware.device, plan.hardware.threads)
    tools = find_tools(paths.SPICE, paths.SPICE_CACHE, str(device))
    result = evaluate_sets(sets | baselines, plan.evaluation, tools)
    result.missing |= missing
    captions = {name: chosen.candidates for name, chosen in (sets | baselines).items()}
    write_scores(result, ids, captions, paths.METRICS / dataset, paths.SCORES / dataset)
    print(table(result))


if __name__ == "__main__":
    run(main)

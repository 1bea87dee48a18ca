"""Scores all systems of a test set, and the yardsticks: ``python -m stages.evaluate <dataset>``."""

from __future__ import annotations

from pipeline.config.plans import EvaluationPlan
from pipeline.corpora.manifest import Manifest
from pipeline.device import set_up
from pipeline.metrics.evaluate import find_tools
from pipeline.metrics.intervals import intervals
from pipeline.metrics.over_seeds import evaluate_seeds, unscored
from pipeline.metrics.tables import ScoreFolders, read_predictions, table, write_scores
from pipeline.metrics.types import ScoredSet
from pipeline.metrics.yardsticks import yardsticks
from stages import paths
from stages.run import given, run


def main(dataset: str) -> None:
    """Writes metrics/<dataset>/<system>.json, the means over the system's seeds; what is around
    them, intervals/<dataset>/<system>.json; and data/scores/<dataset>/<system>.csv.

    Of a blind set these have the number of clips, and the captions, alone. A yardstick, which is
    not trained, has the first seed.
    """
    plan = given(EvaluationPlan, paths.PLANS / "systems" / f"{dataset}.json")
    manifest = Manifest.load(paths.CORPORA / f"{dataset}.json")
    clips = manifest.recordings(plan.evaluation.split)
    ids = [clip.clip_id for clip in clips]
    captions = {
        system: read_predictions(
            paths.PREDICTIONS / dataset / f"{system}.csv",
            ids,
            plan.seeds[system],
            f"run `dvc repro decode@{dataset}-{system}`",
        )
        for system in plan.systems
    }
    folders = ScoreFolders(
        paths.METRICS / dataset, paths.INTERVALS / dataset, paths.SCORES / dataset
    )
    if manifest.blind:
        write_scores(unscored(captions), {}, ids, folders)
        print(f"{dataset}: {len(ids)} clips; no scores, as a blind set has no references")
        return
    references = [clip.captions for clip in clips]
    sets = {
        system: {seed: ScoredSet(each, references) for seed, each in own.items()}
        for system, own in captions.items()
    }
    features = {name: paths.FEATURES / dataset / f"{name}.h5" for name in plan.encoders}
    baselines, missing = yardsticks(manifest, plan.evaluation.split, features)
    sets |= {name: {plan.seed: chosen} for name, chosen in baselines.items()}
    device = set_up(plan.hardware.device, plan.hardware.threads)
    tools = find_tools(paths.SPICE, paths.SPICE_CACHE, str(device))
    systems, result = evaluate_seeds(sets, plan.evaluation, tools)
    result.missing |= missing
    resamples = plan.evaluation.resamples
    found = intervals(systems, resamples)
    write_scores(systems, found, ids, folders, resamples)
    print(table(systems, found, result))


if __name__ == "__main__":
    run(main)

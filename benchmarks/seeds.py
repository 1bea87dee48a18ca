"""A run's scores over several seeds: ``python -m benchmarks.seeds 1 2 3`` after ``dvc repro``.

Trains every captioner, finetuned captioner and retriever of ``data/plans`` with each seed, on the
stored features, and scores every system as the pipeline does, retrieval systems too. Finished
models are kept in ``data/partial/seeds`` and not trained again. ``--only NAME`` leaves out all
other captioners and retrievers, and the systems that need them. ``--set training.epochs=30``
changes a setting in every plan that has it, to compare settings on the validation split.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from pipeline.config.evaluation import EvaluationConfig
from pipeline.config.plans import (
    CaptionerPlan,
    DecodingPlan,
    FinetuningPlan,
    Plan,
    RankingPlan,
    RetrieverPlan,
)
from pipeline.corpora.manifest import Manifest
from pipeline.files import read_json
from pipeline.metrics.evaluate import evaluate_sets, find_tools
from pipeline.metrics.types import ScoredSet
from pipeline.trained.ranking import rank_systems
from stages import decode, finetune, paths, train_captioner, train_retriever

FOLDER = paths.PARTIAL / "seeds"
COUNTED = ("vocabulary", "mean_length")
Trained = CaptionerPlan | FinetuningPlan | RetrieverPlan
Scores = dict[str, dict[str, float]]  # system → metric → value
# plan → the folder of its models, and the stage that trains them
STAGES: dict[type[Plan], tuple[str, Callable[[Any, Path, Path], None]]] = {
    CaptionerPlan: ("captioners", train_captioner.train),
    FinetuningPlan: ("captioners", finetune.train),
    RetrieverPlan: ("retrievers", train_retriever.train),
}


def plans(kind: str) -> dict[str, dict[str, Any]]:
    """Job → its plan as it was written, by phase."""
    folder = paths.PLANS / kind
    return {path.stem: read_json(path, "dvc repro") for path in sorted(folder.glob("*.json"))}


def changed(values: dict[str, Any], seed: int, settings: Mapping[str, Any]) -> Any:
    """A plan's values with the seed and those of the settings that it has."""
    values = json.loads(json.dumps(values)) | {"seed": seed}
    for dotted, value in settings.items():
        *parents, last = dotted.split(".")
        for at in (values, values.get("model")):  # a captioner's own sections are its model's
            for parent in parents:
                at = at.get(parent) if isinstance(at, dict) else None
            if isinstance(at, dict) and last in at:
                at[last] = value
    return values


def jobs(seed: int, settings: Mapping[str, Any]) -> list[Trained]:
    """The plans of all models, each after those that it needs."""
    captioners = list(plans("captioners").values())
    retrievers = [values for values in plans("retrievers").values() if "start" in values]
    of_kind: list[tuple[type[Trained], list[dict[str, Any]]]] = [
        (CaptionerPlan, [v for v in captioners if "scst" not in v]),
        (FinetuningPlan, [v for v in captioners if "scst" in v]),
        (RetrieverPlan, sorted(retrievers, key=lambda v: v["start"] or "")),
    ]
    return [
        kind.model_validate(changed(values, seed, settings))
        for kind, each in of_kind
        for values in each
    ]


def manifest(dataset: str) -> Manifest:
    return Manifest.load(paths.CORPORA / f"{dataset}.json")


def done(plan: Plan, output: Path) -> bool:
    """Whether ``output`` was trained by this very plan."""
    record = output / "seed.json"
    return record.exists() and record.read_text() == plan.model_dump_json()


def train(folder: Path, plan: Trained) -> None:
    """Trains one model into ``folder``, unless it exists."""
    kind, stage = STAGES[type(plan)]
    output = folder / kind / plan.name
    if not done(plan, output):
        stage(plan, folder / kind, folder / "checkpoints")
        (output / "seed.json").write_text(plan.model_dump_json())


def caption(folder: Path, plan: DecodingPlan, split: str) -> ScoredSet:
    """One system's captions of a split, saved as in the pipeline, and its references."""
    plan = plan.model_copy(update={"split": split})
    chooser, own = plan.rerank and plan.rerank.retriever, folder / "retrievers"
    retrievers = own if chooser and (own / chooser).exists() else paths.MODELS / "retrievers"
    captions = decode.caption(plan, folder / "captioners", folder / "predictions", retrievers)
    return ScoredSet(captions, [clip.captions for clip in manifest(plan.dataset).split(split)])


def retrieval_scores(folder: Path, plan: RankingPlan, trained: set[str]) -> Scores:
    """The scores of the systems whose retrievers, or whose captions, exist."""
    captions = folder / "predictions" / plan.name
    systems = {name: each for name, each in plan.systems.items() if set(each) <= trained}
    captioned = {
        name: each
        for name, each in plan.captioned.items()
        if (captions / f"{each.captions_of}.csv").exists()
    }
    ranked = plan.model_copy(update={"systems": systems, "captioned": captioned})
    found = rank_systems(
        ranked,
        manifest(plan.name),
        retrievers=folder / "retrievers",
        features=paths.FEATURES / plan.name,
        predictions=captions,
    )
    return {system: ranked.scores for system, ranked in found.items()}


def main(
    seeds: Annotated[list[int], typer.Argument(help="each trains everything once")],
    only: Annotated[list[str] | None, typer.Option(help="a captioner or retriever")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="dotted=value")] = None,
    split: Annotated[str, typer.Option(help="evaluation, or validation to compare")] = "evaluation",
    name: Annotated[str, typer.Option(help="folder for what is trained")] = "default",
) -> None:
    """Prints one table of captioning and one of retrieval, a column a seed."""
    given = {key: json.loads(value) for key, value in (s.split("=", 1) for s in settings or ())}
    captioned: dict[tuple[int, str], ScoredSet] = {}
    retrieval: dict[int, Scores] = {}
    for seed in seeds:
        folder = FOLDER / name / str(seed)
        chosen = [plan for plan in jobs(seed, given) if not only or plan.name in only]
        for plan in chosen:
            train(folder, plan)
        trained = {plan.name for plan in chosen}
        systems = plans("systems")  # written after training in a new run
        for values in systems.values():
            if "captioners" in values and set(values["captioners"]) <= trained:
                decoding = DecodingPlan.model_validate(values)
                captioned[seed, decoding.name] = caption(folder, decoding, split)
        retrieval[seed] = {}
        for job, values in systems.items():
            if job.startswith("rank-"):
                ranking = RankingPlan.model_validate({**values, "split": split})
                retrieval[seed] |= retrieval_scores(folder, ranking, trained)
    if captioned:
        table(captioning_scores(captioned), ("cider_d", "meteor", "spider", "repetition", *COUNTED))
    table(retrieval, ("t2a_map10", "t2a_r10", "a2t_map10"))


def captioning_scores(captioned: Mapping[tuple[int, str], ScoredSet]) -> dict[int, Scores]:
    """Seed → system → metric → value; Java starts once for all of them."""
    evaluation = EvaluationConfig(spice=True, sbert=None, fluency=None)
    sets = {f"{seed} {system}": chosen for (seed, system), chosen in captioned.items()}
    result = evaluate_sets(sets, evaluation, find_tools(paths.SPICE, paths.SPICE_CACHE))
    scores: dict[int, Scores] = {}
    for seed, system in captioned:
        scores.setdefault(seed, {})[system] = result.scores[f"{seed} {system}"].corpus
    return scores


def table(scores: Mapping[int, Scores], metrics: Sequence[str]) -> None:
    """Of the systems that all seeds have: × 100 but for counts; mean and deviation last."""
    first, *others = scores.values()
    first = {name: values for name, values in first.items() if all(name in o for o in others)}
    if not first:
        return
    print("\n| | | " + " | ".join(f"seed {seed}" for seed in scores) + " | mean ± s.d. |")
    print("|---|---|" + "---:|" * (len(scores) + 1))
    for system, scored in first.items():
        for metric in (metric for metric in metrics if metric in scored):
            values = [scores[seed][system][metric] for seed in scores]
            values = values if metric in COUNTED else [100 * value for value in values]
            spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
            cells = " | ".join(f"{value:.1f}" for value in values)
            print(f"| {system} | {metric} | {cells} | {mean(values):.1f}{spread} |")


if __name__ == "__main__":
    typer.run(main)

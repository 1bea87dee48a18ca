"""The default run's claims over several seeds: ``python -m benchmarks.seeds 1 2 3``.

Trains every captioner, finetuned captioner and retriever of ``data/plans`` anew with each seed, on
the stored features, and scores every system and retrieval system in process: CIDEr-D and
repetition, mAP@10 and R@10. What is done is kept in ``data/partial/seeds`` and not done again.
``--only NAME`` leaves out the other captioners and systems, ``--set training.epochs=30`` changes a
setting of every plan that has it: that is how settings were compared on the validation split.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from pipeline.corpora.manifest import Manifest
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predictions import caption_clips
from pipeline.features.store import FeatureStore
from pipeline.files import read_json
from pipeline.metrics.cider_d import CiderD
from pipeline.metrics.diversity import diversity
from pipeline.plans import (
    CaptionerPlan,
    DecodingPlan,
    FinetuningPlan,
    Plan,
    RankingPlan,
    RetrieverPlan,
)
from pipeline.ranking import score_systems
from pipeline.text.ptb import tokenize
from pipeline.training.bundle import load_captioner
from pipeline.training.captioning import train_captioner
from pipeline.training.finetuning import finetune_captioner
from pipeline.training.retrieval import train_retriever
from stages import paths

FOLDER = paths.PARTIAL / "seeds"
Trained = CaptionerPlan | FinetuningPlan | RetrieverPlan
Scores = dict[str, dict[str, float]]  # system → metric → value


def plans(kind: str) -> dict[str, dict[str, Any]]:
    """Job → its plan as it was written, by phase."""
    folder = paths.PLANS / kind
    return {name: read_json(folder / f"{name}.json", "dvc repro") for name in _jobs(folder)}


def _jobs(folder: Path) -> list[str]:
    return list(read_json(folder / "jobs.json", "run `dvc repro` first"))


def changed(values: dict[str, Any], section: str, seed: int, settings: Mapping[str, Any]) -> Any:
    """A plan's values with the seed and the settings that it has."""
    values = json.loads(json.dumps(values))
    values[section]["seed"] = seed
    for dotted, value in settings.items():
        *parents, last = dotted.split(".")
        at: Any = values
        for parent in parents:
            at = at.get(parent) if isinstance(at, dict) else None
        if isinstance(at, dict) and last in at:
            at[last] = value
    return values


def jobs(seed: int, settings: Mapping[str, Any]) -> list[Trained]:
    """The plans of all that is trained, what others start from first."""
    captioners = list(plans("captioners").values())
    retrievers = [values for values in plans("retrievers").values() if "biencoder" in values]
    of_kind: list[tuple[type[Trained], str, list[dict[str, Any]]]] = [
        (CaptionerPlan, "training", [v for v in captioners if "scst" not in v]),
        (FinetuningPlan, "scst", [v for v in captioners if "scst" in v]),
        (RetrieverPlan, "training", sorted(retrievers, key=lambda v: v["start"] or "")),
    ]
    return [
        kind.model_validate(changed(values, section, seed, settings))
        for kind, section, own in of_kind
        for values in own
    ]


def stores(dataset: str, names: Sequence[str], stage: str = "extract") -> list[FeatureStore]:
    return [FeatureStore.open(paths.FEATURES / dataset / f"{name}.h5", stage) for name in names]


def manifest(dataset: str) -> Manifest:
    return Manifest.load(paths.CORPORA / f"{dataset}.json")


def done(plan: Plan, output: Path) -> bool:
    """Whether ``output`` was trained by this very plan."""
    record = output / "seed.json"
    return record.exists() and record.read_text() == plan.model_dump_json()


def train(folder: Path, plan: Trained) -> None:
    """Trains one model into ``folder``, unless it is there."""
    kind = "retrievers" if isinstance(plan, RetrieverPlan) else "captioners"
    output, checkpoints = folder / kind / plan.name, folder / "checkpoints"
    if done(plan, output):
        return
    if isinstance(plan, RetrieverPlan):
        text = plan.text_features
        train_retriever(
            plan,
            {dataset: manifest(dataset) for dataset in plan.datasets},
            {dataset: stores(dataset, plan.features) for dataset in plan.datasets},
            {d: stores(d, [text], "embed")[0] for d in plan.datasets if text},
            start=folder / "retrievers" / plan.start if plan.start else None,
            output=output,
            checkpoints=checkpoints,
        )
    else:
        features = stores(plan.dataset, plan.features)
        if isinstance(plan, CaptionerPlan):
            text = plan.text
            embedded = stores(plan.dataset, [text], "embed")[0] if text else None
            data = manifest(plan.dataset)
            train_captioner(plan, data, features, embedded, output, checkpoints)
        else:
            base = load_captioner(folder / "captioners" / plan.captioner)
            finetune_captioner(plan, base, manifest(plan.dataset), features, output, checkpoints)
    (output / "seed.json").write_text(plan.model_dump_json())


def captioning_scores(folder: Path, plan: DecodingPlan, split: str) -> dict[str, float]:
    """CIDEr-D and repetition of one system, by PTB tokens made in process."""
    members = [load_captioner(folder / "captioners" / name) for name in plan.captioners]
    clips = manifest(plan.dataset).split(split)
    read = [stores(plan.dataset, member.plan.features) for member in members]
    names = [clip.clip_id for clip in clips]
    ensemble = Ensemble(tuple(members), plan.combine)
    captions = caption_clips(ensemble, read, names, plan.decoding, plan.name)
    texts = tokenize([caption.text for caption in captions])
    cider_d = CiderD([tokenize(clip.captions) for clip in clips]).score(texts).corpus
    counted = diversity(texts)
    return {
        "cider_d": cider_d,
        "repetition": counted.repetition.corpus,
        "length": counted.mean_length.corpus,
    }


def main(
    seeds: Annotated[list[int], typer.Argument(help="each trains everything once")],
    only: Annotated[list[str] | None, typer.Option(help="a captioner, retriever, system")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="dotted=value")] = None,
    split: Annotated[str, typer.Option(help="evaluation, or validation to compare")] = "evaluation",
    name: Annotated[str, typer.Option(help="folder for what is trained")] = "default",
) -> None:
    """Prints one table of captioning and one of retrieval, a column a seed."""
    given = {key: json.loads(value) for key, value in (s.split("=", 1) for s in settings or ())}
    wanted = set(only or ())
    captioning: dict[int, Scores] = {}
    retrieval: dict[int, Scores] = {}
    for seed in seeds:
        folder = FOLDER / name / str(seed)
        for plan in jobs(seed, given):
            if not wanted or plan.name in wanted:
                train(folder, plan)
        captioning[seed], retrieval[seed] = {}, {}
        for job, values in plans("systems").items():
            if "captioners" in values and (not wanted or set(values["captioners"]) <= wanted):
                decoding = DecodingPlan.model_validate(values)
                captioning[seed][decoding.name] = captioning_scores(folder, decoding, split)
            if job.startswith("rank-") and not wanted:
                ranking = RankingPlan.model_validate({**values, "split": split})
                features = paths.FEATURES / ranking.name
                retrieval[seed] |= score_systems(
                    ranking, manifest(ranking.name), folder / "retrievers", features
                )
    table(captioning, ("cider_d", "repetition", "length"))
    table(retrieval, ("t2a_map10", "t2a_r10", "a2t_map10"))


def table(scores: Mapping[int, Scores], metrics: Sequence[str]) -> None:
    """× 100, but lengths as they are; mean and standard deviation last."""
    first = next(iter(scores.values()))
    if not first:
        return
    print("\n| | | " + " | ".join(f"seed {seed}" for seed in scores) + " | mean ± s.d. |")
    print("|---|---|" + "---:|" * (len(scores) + 1))
    for system in first:
        for metric in metrics:
            values = [scores[seed][system][metric] for seed in scores]
            values = values if metric == "length" else [100 * value for value in values]
            spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
            cells = " | ".join(f"{value:.1f}" for value in values)
            print(f"| {system} | {metric} | {cells} | {mean(values):.1f}{spread} |")


if __name__ == "__main__":
    typer.run(main)

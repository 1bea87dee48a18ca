"""How long the trainings of a system took: its models', and those of what they are made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from earwitness.repository import Repository
from earwitness.submission.running import MemberPlan
from pipeline.config.params import Params
from pipeline.config.plans import CaptionerPlan, RetrieverPlan
from pipeline.errors import EarwitnessError
from pipeline.files import read_json
from pipeline.times import time_of

ENCODERS = "data/models/encoders"  # as a plan's inputs name them


def training_hours(
    plans: Iterable[MemberPlan], features: Iterable[str], seed: int, repository: Repository
) -> float | None:
    """Of all jobs together, by what they left in ``data/times``; None: one of them left nothing.

    Args:
        plans: of the system's members, and of the retriever that reranks.
        features: of frozen encoders, that the members read, through retrievers too.
        seed: that the system's models were trained with.
    """
    params, folder = repository.params(), repository.data / "plans"
    frozen = [(name, params.encoders[name].weights) for name in features if name in params.encoders]
    taggers = [weights.tagger(name) for name, weights in frozen]
    jobs: list[str] = []
    for plan in plans:
        if isinstance(plan, CaptionerPlan):
            jobs += _captioner(plan, seed, params)
        elif isinstance(plan, RetrieverPlan):
            jobs += _retriever(plan.name, seed, params)
    for job in jobs:
        taggers += _towers(folder / f"{job}.json")
    jobs += [f"tagging/{name}" for name in taggers if name is not None]
    times = [
        time_of(repository.data / "times", folder / f"{job}.json") for job in dict.fromkeys(jobs)
    ]
    known = [each.seconds for each in times if each is not None]
    return float(f"{sum(known) / 3600:.3g}") if len(known) == len(times) else None


def _captioner(plan: CaptionerPlan, seed: int, params: Params) -> Iterator[str]:
    """The plans of a captioner, of what it is trained further from, and of its retrievers."""
    finetuned = params.finetuned.get(plan.name)
    if finetuned is not None:
        yield f"finetuned/{plan.name}/{seed}"
    yield f"captioners/{finetuned.captioner if finetuned else plan.name}/{seed}"
    for feature in plan.features:
        maker, _, part = feature.partition("/")
        if part:  # features are of the first seed
            yield from _retriever(maker, params.seeds[0], params)


def _retriever(name: str, seed: int, params: Params) -> Iterator[str]:
    """The plans of a retriever, and of what it is trained further from; none of a space."""
    if (adapted := params.adapted.get(name)) is not None:
        yield f"adapted/{name}/{seed}"
        name = adapted.retriever
    if name in params.retrievers:
        yield f"retrievers/{name}/{seed}"


def _towers(plan: Path) -> Iterator[str]:
    """The encoders of the tagging stage whose weights a model's own tower began with."""
    try:
        inputs = read_json(plan, "")["inputs"]
    except (EarwitnessError, KeyError, TypeError):
        return
    for path in map(PurePosixPath, inputs):
        if path.is_relative_to(ENCODERS):
            yield path.relative_to(ENCODERS).parts[0]

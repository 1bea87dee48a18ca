"""What a run came to, on one screen: ``earwitness summary``.

Five captions beside their references, the six scores that matter beside their yardsticks, where the
report is, and what to do next. The five are spread evenly over the test set, good or bad.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from earwitness.half_intervals import half_intervals
from earwitness.report.results import read_scores
from earwitness.repository import Repository
from pipeline.config.params import Params
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.metrics.tables import read_predictions
from pipeline.planning.lookup import system_seeds

EXAMPLES = 5
LABELS = {  # of captions and of retrieval, the likeliest to be asked for first
    "spider": "SPIDEr",
    "cider_d": "CIDEr-D",
    "spice": "SPICE",
    "fense": "FENSE",
    "sbert_sim": "SBERT",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "bleu_4": "BLEU 4",
    "t2a_map10": "mAP@10",
    "t2a_r10": "R@10",
}
NAMED_BY_WEIGHTS = ("fense", "sbert_sim")  # such as sbert_sim_minilm
SHOWN = {"captions": 4, "retrieval": 2}  # six in all
YARDSTICK = "yardstick_"
YARDSTICKS = ("constant", "nearest", "human", "chance")


class Example(NamedTuple):
    """One clip's caption; ``references`` are empty where a test set has none."""

    clip_id: str
    caption: str
    references: tuple[str, ...]


class Score(NamedTuple):
    """One score: of the system that is used by default, of the highest, and of the yardsticks."""

    kind: str  # captions, retrieval
    name: str  # as in metrics/
    label: str
    system: str
    value: float | None
    highest_system: str
    highest: float
    yardsticks: dict[str, float]
    # half of the 95 % interval of both; None where there is none
    around: float | None = None
    highest_around: float | None = None


class Step(NamedTuple):
    """What to do next."""

    what: str
    command: str


class Summary(NamedTuple):
    """``missing`` says what is not made yet, and the command that makes it."""

    dataset: str
    system: str
    clips: int
    examples: list[Example]
    scores: list[Score]
    report: str | None
    next: list[Step]
    missing: list[str]


def summarise(repository: Repository) -> Summary:
    """Reads what is there; a run that is not complete gives a part, and says what is missing.

    Raises:
        EarwitnessError: invalid parameters, or a file that is there and cannot be read.
    """
    params = repository.params()
    missing: list[str] = []
    dataset = params.test_sets[0] if params.test_sets else ""
    system = next(iter(params.systems), "")
    clips = _clips(repository, params, dataset)
    examples = _examples(repository, params, dataset, clips, missing)
    scores = []
    if not clips or any(clip.captions for clip in clips):  # a challenge's test set has none
        scores += _captioning(repository, params, dataset, missing)
    scores += _retrieval(repository, params, missing)
    report = repository.data / "report.html"
    if not report.is_file():
        missing.append("the report is not there yet: dvc repro report")
    return Summary(
        dataset, system, len(clips), examples, scores, str(report) if report.is_file() else None,
        _next(params, dataset), missing,
    )  # fmt: skip


def _clips(repository: Repository, params: Params, dataset: str) -> Sequence[Clip]:
    """The test set's; none where it is not prepared yet."""
    corpus = repository.data / "corpora" / f"{dataset}.json"
    return Manifest.load(corpus).split(params.evaluation.split) if corpus.is_file() else ()


def _examples(
    repository: Repository,
    params: Params,
    dataset: str,
    clips: Sequence[Clip],
    missing: list[str],
) -> list[Example]:
    """Five clips, evenly spread in the order of the test set; captions of the first seed."""
    if not (dataset and params.systems):
        return []
    system, seeds = next(iter(system_seeds(params).items()))
    seed = seeds[0]
    job = f"dvc repro decode@{dataset}-{system}"
    path = repository.data / "predictions" / dataset / f"{system}.csv"
    if not (clips and path.is_file()):
        missing.append(f"no captions of {system} on {dataset} yet: {job}")
        return []
    ids, hint = [clip.clip_id for clip in clips], f"run `{job}`"
    captions = read_predictions(path, ids, [seed], hint)[seed]
    chosen = dict.fromkeys(at * len(clips) // EXAMPLES for at in range(EXAMPLES))
    return [Example(clips[at].clip_id, captions[at], clips[at].captions) for at in chosen]


def _captioning(
    repository: Repository, params: Params, dataset: str, missing: list[str]
) -> list[Score]:
    if not (dataset and params.systems):
        return []
    found = read_scores(repository.root / "metrics").get(dataset, {})
    scores = _table("captions", found, [*params.systems], f"evaluate@{dataset}", missing)
    return _with_intervals(scores, repository, dataset)


def _retrieval(repository: Repository, params: Params, missing: list[str]) -> list[Score]:
    if not (params.retrieval_test_sets and params.retrieval_systems):
        return []
    dataset = params.retrieval_test_sets[0]
    found = read_scores(repository.root / "metrics" / "retrieval").get(dataset, {})
    scores = _table("retrieval", found, [*params.retrieval_systems], f"rank@{dataset}", missing)
    return _with_intervals(scores, repository, f"retrieval/{dataset}")


def _with_intervals(scores: list[Score], repository: Repository, place: str) -> list[Score]:
    names = dict.fromkeys(name for own in scores for name in (own.system, own.highest_system))
    halves = {name: half_intervals(repository.root, f"{place}/{name}") for name in names}
    return [
        own._replace(
            around=halves[own.system].get(own.name),
            highest_around=halves[own.highest_system].get(own.name),
        )
        for own in scores
    ]


def _table(
    kind: str,
    found: Mapping[str, Mapping[str, float]],
    systems: Sequence[str],
    job: str,
    missing: list[str],
) -> list[Score]:
    """The scores of ``kind`` that were made, at most as many as a screen has room for."""
    there = {name: found[name] for name in systems if name in found}
    if not there:
        missing.append(f"no scores of {kind} yet: dvc repro {job}")
        return []
    yardsticks = {n: found[f"{YARDSTICK}{n}"] for n in YARDSTICKS if f"{YARDSTICK}{n}" in found}
    scores = []
    for wanted, label in LABELS.items():
        if wanted.startswith("t2a_") != (kind == "retrieval"):
            continue
        name = _made(wanted, there)
        if name is not None:
            scores.append(_score(kind, name, label, systems[0], there, yardsticks))
    return scores[: SHOWN[kind]]


def _made(wanted: str, systems: Mapping[str, Mapping[str, float]]) -> str | None:
    """The score as it was made, perhaps with other weights, which are then in its name."""
    made = dict.fromkeys(name for values in systems.values() for name in values)
    if wanted in made or wanted not in NAMED_BY_WEIGHTS:
        return wanted if wanted in made else None
    return next((name for name in made if name.startswith(f"{wanted}_")), None)


def _score(
    kind: str,
    name: str,
    label: str,
    system: str,
    systems: Mapping[str, Mapping[str, float]],
    yardsticks: Mapping[str, Mapping[str, float]],
) -> Score:
    best = max((s for s in systems if name in systems[s]), key=lambda s: systems[s][name])
    if name not in LABELS:  # made with other weights than the field's
        label = f"{label} ({name.rpartition('_')[2]})"
    value = systems[system].get(name) if system in systems else None
    beside = {each: values[name] for each, values in yardsticks.items() if name in values}
    return Score(kind, name, label, system, value, best, systems[best][name], beside)


def _next(params: Params, dataset: str) -> list[Step]:
    synthetic = bool(dataset) and params.datasets[dataset].synthetic
    yours = Step("caption recordings of yours", "earwitness caption street.wav")
    if synthetic:  # its captioners know no real sound
        yours = Step("captions and search of real sound", "earwitness recipe listen && dvc repro")
    fused = any(getattr(captioner, "fuser", False) for captioner in params.captioners.values())
    knob = "fuser.layers=3" if fused else "'seeds=[1,2]'"
    return [
        yours,
        Step("change one setting; only what reads it runs", f"dvc exp run -S {knob}"),
        Step("train on recordings of yours", "earwitness recipe edtc folder --root DIR"),
    ]

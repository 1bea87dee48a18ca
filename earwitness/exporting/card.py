"""The model card of an exported system, filled from its run: ``README.md`` as a hub reads it."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from earwitness import params_file
from earwitness.captioning import CaptioningSystem
from earwitness.certainty import PERCENTILE
from earwitness.exporting.figures import Figure, caption_figures, search_figures
from earwitness.exporting.licences import OURS, licence_of
from earwitness.exporting.parts import SystemParts, datasets
from earwitness.repository import Repository
from earwitness.retrieval import RetrievalSystem
from earwitness.training_data import in_words, is_synthetic
from pipeline.config.exported import ExportConfig
from pipeline.config.plans import CaptionerPlan
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError
from pipeline.files import write_atomic

CAPTIONS_USE = """\
import earwitness
system = earwitness.load("{place}")
print(system.caption(["street.wav"])[0].text)"""
SEARCH_USE = """\
import earwitness
system = earwitness.load("{place}")
print(system.similarity(system.embed_text(["a dog barks"]), system.embed_audio(["street.wav"])))"""
COMBINED = {"probs": "probabilities", "log_probs": "log-probabilities"}
TASKS = {"captioning": "audio-captioning", "retrieval": "audio-text-retrieval"}


def write_card(
    path: Path,
    manifest: ExportConfig,
    system: CaptioningSystem | RetrievalSystem,
    parts: SystemParts,
    repository: Repository,
) -> None:
    """Writes the card: front matter in YAML, then Markdown."""
    names = [*dict.fromkeys(datasets(parts))]
    figures = _figures(manifest, system.seed, repository)
    head = StringIO()
    params_file.yaml().dump(_front_matter(manifest, figures, names, repository), head)
    task = TASKS[manifest.kind].replace("-", " ")
    sections = {
        f"# {manifest.system}": [f"{task.capitalize()}, made with {manifest.made_by}.", ""],
        "## How to use": _use(manifest),
        "## What it is": [*_about(manifest, system, parts)],
        "## What it learned from, and the licences": [*_data(names, repository, manifest)],
        "## Scores": [*_scores(figures)],
        "## Intended use and limits": [*_limits(manifest, names, repository, system)],
    }
    body = "\n".join(f"{title}\n\n" + "\n".join(lines) + "\n" for title, lines in sections.items())
    write_atomic(path, f"---\n{head.getvalue()}---\n\n{body}")


def _figures(manifest: ExportConfig, seed: int, repository: Repository) -> list[Figure]:
    params, name = repository.params(), manifest.system
    if manifest.kind == "captioning":
        sets = [caption_figures(repository, dataset, name, seed) for dataset in params.test_sets]
    else:
        split = params.evaluation.split
        sets = [
            search_figures(repository, dataset, name, seed, split)
            for dataset in params.retrieval_test_sets
        ]
    return [figure for own in sets for figure in own]


def _front_matter(
    manifest: ExportConfig, figures: list[Figure], names: list[str], repository: Repository
) -> dict[str, Any]:
    params, task = repository.params(), TASKS[manifest.kind]
    known = {licence_of(params.datasets.get(name)).known for name in names}
    licence: dict[str, Any] = {"license": "other", "license_name": "see-the-card"}
    if known == {OURS}:
        licence = {"license": OURS}
    head = {
        "language": ["en"], **licence, "library_name": "earwitness",
        "tags": ["audio", task, "earwitness"],
    }  # fmt: skip
    results = [
        {
            "task": {"type": task, "name": task.replace("-", " ").capitalize()},
            "dataset": {"type": dataset, "name": dataset},
            "metrics": [
                {"type": each.metric, "name": each.name, "value": each.value}
                for each in figures
                if each.dataset == dataset
            ],
        }
        for dataset in dict.fromkeys(figure.dataset for figure in figures)
    ]
    if results:
        head["model-index"] = [{"name": manifest.system, "results": results}]
    return head


def _use(manifest: ExportConfig) -> list[str]:
    use = CAPTIONS_USE if manifest.kind == "captioning" else SEARCH_USE
    code = use.format(place="/path/to/this/folder")
    return [
        "`pip install earwitness`; then, with this folder, or `hub:ORG/NAME` in its place:", "",
        "```python", code, "```",
    ]  # fmt: skip


def _about(
    manifest: ExportConfig, system: CaptioningSystem | RetrievalSystem, parts: SystemParts
) -> Iterator[str]:
    if isinstance(system, CaptioningSystem):
        for captioner in system.ensemble.captioners:
            size = sum(each.numel() for each in captioner.model.parameters())
            architecture = captioner.plan.model.architecture
            yield f"- captioner `{captioner.plan.name}`: {architecture}, {size:,} parameters"
        if len(system.ensemble.captioners) > 1:
            mean = COMBINED[system.ensemble.combine]
            yield f"- one search over all of them: the mean of their {mean}"
        search = system.decoding
        yield f"- decoding: {search.method}, {search.beams} beams, {search.max_length} tokens"
    else:
        for member in system.members:
            size = sum(each.numel() for each in member.model.parameters())
            yield f"- retriever `{member.plan.name}`: {member.width} wide, {size:,} parameters"
    for plan in parts.models.values():
        if isinstance(system, CaptioningSystem) and not isinstance(plan, CaptionerPlan):
            yield f"- retriever `{plan.name}`, which makes features"
    yield from (
        f"- frozen encoder `{part.name}`: {part.settings.module}, weights {_origin(part.settings)}"
        for part in parts.frozen
    )
    for place, about in manifest.left_out.items():
        yield f"- not in this folder: `{place}`, SHA-256 `{about.sha256}`; put it there"
    for own in manifest.named:
        digest = f", SHA-256 `{own.sha256}`" if own.sha256 else ""
        yield f"- not in this folder, found by its name: `{own.weights}` of `{own.encoder}`{digest}"


def _origin(settings: Any) -> str:
    match settings.weights.kind:
        case "tagging":
            return "trained by earwitness"
        case "path":
            return "of a file"
        case "none":
            return "none"
    return f"`{settings.weights}`"


def _data(names: list[str], repository: Repository, manifest: ExportConfig) -> Iterator[str]:
    params = repository.params()
    for name in names:
        words = in_words([name], params, repository)
        yield f"- {words}: {licence_of(params.datasets.get(name)).words}"
    if not names:
        yield "- nothing: no weight of it was trained"
    yield "- the code that made it and reads it: earwitness, Apache-2.0"
    if manifest.named or manifest.left_out:
        yield "- published weights of its encoders have licences of their own, on their pages"


def _scores(figures: list[Figure]) -> Iterator[str]:
    if not figures:
        yield "It was not scored."
        return
    yield from ("| test set | clips | score | value | 95 % interval |", "|---|---|---|---|---|")
    for own in figures:
        between = "" if own.low is None else f"{own.low:.3f} to {own.high:.3f}"
        yield f"| {own.dataset} | {own.clips} | {own.name} | {own.value:.3f} | {between} |"
    yield ""
    yield (
        "Intervals: percentile bootstrap over the clips, whose captions stay together. Scores that "
        "are no mean over clips, such as BLEU, or that no table holds clip by clip, have none."
    )


def _limits(
    manifest: ExportConfig,
    names: list[str],
    repository: Repository,
    system: CaptioningSystem | RetrievalSystem,
) -> Iterator[str]:
    params = repository.params()
    use = "describing sounds in a sentence" if manifest.kind == "captioning" else "finding sounds"
    yield f"- made for {use}, in English; it says nothing of what is spoken, or by whom"
    if names and all(is_synthetic(name, params, repository) for name in names):
        yield "- it was trained on synthetic sound alone and does not know real sound"
    for name in names:
        seconds = _seconds(name, repository)
        if seconds:
            yield f"- clips of {name} last {seconds}; on other lengths it was not tested"
    if isinstance(system, CaptioningSystem) and system.usual is not None:
        yield (
            f"- a caption is marked unsure where its log-probability a token is below "
            f"{system.usual.lowest:.3f}, that of {PERCENTILE} % of its captions of its test set"
        )
    yield "- not for alarms, medicine, surveillance, or anything where a wrong sentence harms"


def _seconds(dataset: str, repository: Repository) -> str:
    try:
        clips = Manifest.load(repository.data / f"corpora/{dataset}.json").sounding
    except EarwitnessError:
        return ""
    lengths = [clip.duration for clip in clips]
    return f"{min(lengths):.1f} to {max(lengths):.1f} seconds" if lengths else ""

"""Trains one retriever by contrast (SJTU 2.2), from plan and stored features to a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pipeline.config.plans import RetrieverPlan
from pipeline.config.training import OptimisationConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.corpora.splits import training_clips
from pipeline.device import resolve_device
from pipeline.errors import EarwitnessError
from pipeline.features.bank import open_banks
from pipeline.features.mixture import open_mixture
from pipeline.features.store import FeatureStore, caption_id
from pipeline.files import replacing_folder, sha256
from pipeline.metrics.retrieval import mean_similarity, ranking_scores
from pipeline.state_dicts import load_weights, weights
from pipeline.trained.biencoders import build_biencoder, rebuild_biencoder
from pipeline.trained.captioner import WEIGHTS
from pipeline.trained.retriever import TrainedRetriever, load_retriever
from pipeline.trained.texts import Texts
from pipeline.training.checkpoints import Progress
from pipeline.training.jobs import training_job
from pipeline.training.loop import Task, curves_csv, fit
from pipeline.training.optimizers import build_optimizer
from pipeline.training.pair_batches import PairBatches
from pipeline.training.schedules import build_schedule

if TYPE_CHECKING:
    from pipeline.models.towers.text_tokens import TextTokens

SCORE = "validation_map10"
# of the curves: text → audio, and audio → text
CURVES = {SCORE: "t2a_map10", "validation_r10": "t2a_r10", "validation_a2t_map10": "a2t_map10"}

Features = Mapping[str, Sequence[FeatureStore]]  # dataset → E stores
Texted = Mapping[str, FeatureStore]  # dataset → stored text features
Clips = Mapping[str, tuple[Clip, ...]]  # dataset → its clips


def train_retriever(
    plan: RetrieverPlan,
    manifests: Mapping[str, Manifest],
    features: Features,
    text: Texted,
    start: Path | None,
    output: Path,
    checkpoints: Path,
) -> Progress:
    """Trains on the mixture's development splits; the best on validation goes to ``output``.

    Killed and called again it goes on from its last checkpoint, and on a CPU with the same number
    of threads ends with the same bytes.

    Args:
        manifests: of ``plan.datasets``, and so of the following.
        features: of ``plan.features``, in their order.
        text: of ``plan.text_features``; empty where a text tower is trained.
        start: folder of the retriever whose weights it begins with.
        output: a folder, there whole or not at all (see pipeline/trained/retriever.py).
        checkpoints: folder of all jobs' checkpoints.

    Raises:
        EarwitnessError: what the user can mend, such as a clip without features or captions.
    """
    device = resolve_device(plan.training.device)
    identity = _identity(plan, start)
    with training_job(f"retriever-{plan.name}", identity, output, checkpoints, device) as saved:
        torch.manual_seed(plan.training.seed)
        retriever, task = prepare(plan, manifests, features, text, start, device)
        schedule = build_schedule(plan.training, task.batches.steps)
        optimizer = build_optimizer(task.model, plan.training)
        progress = fit(task, optimizer, schedule, plan.training, saved, plan.name)
        with replacing_folder(output) as folder:
            retriever.save(folder, curves_csv(progress.curves))
    return progress


def prepare(
    plan: RetrieverPlan,
    manifests: Mapping[str, Manifest],
    features: Features,
    text: Texted,
    start: Path | None,
    device: torch.device,
) -> tuple[TrainedRetriever, Task[Any]]:
    """The retriever before its training, and the run that trains it."""
    clips, held_out = mixture_clips(
        {name: manifests[name] for name in plan.datasets}, plan.training
    )
    first = features[plan.datasets[0]]
    widths = tuple(store.width for store in first)
    text_width = None if plan.text else text[plan.datasets[0]].width
    begun = None if start is None else load_retriever(start, "cpu")
    tokenizer = None
    if begun is not None:
        check_start(plan, widths, text_width, begun)
        tokenizer = begun.tokenizer
    elif plan.text is not None:
        tokenizer = _tokens(plan, clips)
    retriever = _untrained(plan, widths, text_width, tokenizer, begun, device)
    model = retriever.model
    batches = make_batches(retriever, clips, features, text)
    validate = validation(retriever, held_out, features, text)
    hooks = model.before_step, model.after_step
    return retriever, Task(model, batches, model.loss, *hooks, validate, SCORE)


def mixture_clips(
    manifests: Mapping[str, Manifest], training: OptimisationConfig
) -> tuple[Clips, Clips]:
    """The clips of each dataset to train on, and those to validate on, where there are some.

    A dataset without a validation split, such as MACS, is trained on alone.

    Raises:
        EarwitnessError: no dataset has one, or a clip has no caption.
    """
    clips, held_out = {}, {}
    for name, manifest in manifests.items():
        if any(clip.split == "validation" for clip in manifest.clips):
            clips[name], held_out[name] = training_clips(manifest, training)
            continue
        clips[name] = manifest.split("development")
        if bare := next((clip for clip in clips[name] if not clip.captions), None):
            raise EarwitnessError(f"{name}: {bare.clip_id!r} has no caption; add one")
    if not held_out:
        raise EarwitnessError(
            f"no validation split in {', '.join(clips)}; add a dataset that has one"
        )
    return clips, held_out


def check_start(
    plan: RetrieverPlan, widths: Sequence[int], text_width: int | None, start: TrainedRetriever
) -> None:
    """Refuses a retriever whose weights are of other towers, features or widths than the plan's."""
    began = start.plan
    pairs: dict[str, tuple[object, object]] = {
        "features": (began.features, plan.features),
        "sound tower": tuple(
            p.sound.model_copy(update={"weights": ""}) if p.sound else None for p in (began, plan)
        ),  # type: ignore[dict-item]
        "input": (began.input, plan.input),
        "text tower": (began.text, plan.text),
        "text features": (began.text_features, plan.text_features),
        **{
            f"biencoder.{name}": (getattr(began.biencoder, name), getattr(plan.biencoder, name))
            for name in ("width", "project", "shared")
        },
        "features' widths": (tuple(start.widths), tuple(widths)),
        "text features' width": (start.text_width, text_width),
    }
    for what, (own, wanted) in pairs.items():
        if own != wanted:
            raise EarwitnessError(
                f"{plan.name}: cannot start from retriever {began.name}, whose {what} is not the "
                f"same ({_short(own)}, not {_short(wanted)}); take that setting out of its `set`"
            )


class Split(NamedTuple):
    """One dataset's validation split, ready to be embedded."""

    sound: tuple[Any, ...]  # E banks
    texts: Texts
    clip_of: Tensor  # (M,) int64, each caption's clip


def validation(
    retriever: TrainedRetriever, held_out: Clips, features: Features, text: Texted
) -> Callable[[], dict[str, float]]:
    """A function that ranks each dataset's validation split: the mean over them, whole clips."""
    device = retriever.device
    splits = []
    for dataset, clips in held_out.items():
        counts = torch.tensor([len(clip.captions) for clip in clips])
        names = [clip.clip_id for clip in clips]
        splits.append(
            Split(
                tuple(open_banks(features[dataset], names, device)),
                _texts(retriever, {dataset: clips}, text),
                torch.arange(len(clips)).repeat_interleave(counts).to(device),
            )
        )

    def validate() -> dict[str, float]:
        found = []
        for split in splits:
            captions = retriever.embed_texts(split.texts)
            embedded = retriever.pair(captions, retriever.embed_banks(split.sound))
            similarity = mean_similarity([embedded], slice(None))
            found.append(ranking_scores(similarity, split.clip_of))
        return {
            curve: sum(scores[key] for scores in found) / len(found)
            for curve, key in CURVES.items()
        }

    return validate


def make_batches(
    retriever: TrainedRetriever, clips: Clips, features: Features, text: Texted
) -> PairBatches:
    """The training pairs of a mixture's clips, dataset by dataset."""
    plan, device = retriever.plan, retriever.device
    names = [[clip.clip_id for clip in own] for own in clips.values()]
    counts = [len(clip.captions) for own in clips.values() for clip in own]
    stores = [[features[dataset][e] for dataset in clips] for e in range(len(plan.features))]
    return PairBatches(
        [open_mixture(own, names, device) for own in stores],
        [own[0].header.frame_seconds for own in stores],
        torch.tensor(counts),
        _texts(retriever, clips, text),
        batch=plan.training.batch,
        draw=plan.training.captions,
        seed=plan.training.seed,
        crop_seconds=plan.training.crop_seconds,
        device=device,
    )


def _texts(retriever: TrainedRetriever, clips: Clips, text: Texted) -> Texts:
    """All captions of the clips, clip by clip."""
    if retriever.tokenizer is not None:
        return retriever.token_table([c for own in clips.values() for x in own for c in x.captions])
    rows = [
        [caption_id(clip.clip_id, k) for clip in own for k in range(len(clip.captions))]
        for own in clips.values()
    ]
    return open_mixture([text[dataset] for dataset in clips], rows, retriever.device)


def _tokens(plan: RetrieverPlan, clips: Clips) -> TextTokens:
    from pipeline.models.towers.text_tokens import make_tokens

    assert plan.text is not None
    return make_tokens(plan.text, [c for own in clips.values() for x in own for c in x.captions])


def _untrained(
    plan: RetrieverPlan,
    widths: tuple[int, ...],
    text_width: int | None,
    tokenizer: TextTokens | None,
    begun: TrainedRetriever | None,
    device: torch.device,
) -> TrainedRetriever:
    """With the weights of ``begun``, or those that the plan's towers name."""
    if begun is None:
        model = build_biencoder(plan, widths, text_width, tokenizer)
    else:
        model = rebuild_biencoder(plan, begun.form())
        load_weights(model, weights(begun.model), begun.plan.name)
    return TrainedRetriever(plan, model.to(device), tokenizer, widths, text_width)


def _identity(plan: RetrieverPlan, start: Path | None) -> bytes:
    """All that the run's checkpoints depend on; the plan says nothing of the start's weights."""
    began = sha256(start / WEIGHTS) if start and (start / WEIGHTS).is_file() else ""
    return (plan.model_dump_json() + began).encode()


def _short(value: object) -> str:
    return str(value) if len(str(value)) <= 60 else f"{str(value)[:60]}…"

"""Trains one retriever by a contrastive loss (SJTU 2.2), by its plan, on stored features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.config.plans import BiEncoderPlan, RetrieverPlan
from pipeline.config.training import OptimisationConfig, RetrievalTrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.corpora.splits import training_clips
from pipeline.errors import EarwitnessError
from pipeline.features.mixture import open_mixture
from pipeline.features.store import FeatureStore
from pipeline.files import sha256
from pipeline.metrics.retrieval import mean_similarity, ranking_scores
from pipeline.models.biencoder import Pairs
from pipeline.state_dicts import load_weights, weights
from pipeline.tracking.registry import Tracking
from pipeline.trained.folder import WEIGHTS
from pipeline.trained.inputs import Embeddable
from pipeline.trained.readers import load_text, new_text
from pipeline.trained.retriever import TrainedRetriever, build_retriever, load_retriever
from pipeline.training.checkpoints import Progress
from pipeline.training.jobs import Save, run_job
from pipeline.training.loop import Task, curves_csv
from pipeline.training.pair_batches import PairBatches

SCORE = "validation_map10"
# the curves: text → audio, and audio → text
CURVES = {SCORE: "t2a_map10", "validation_r10": "t2a_r10", "validation_a2t_map10": "a2t_map10"}

Features = Mapping[str, Sequence[FeatureStore]]  # dataset → a side's E stores
Clips = Mapping[str, Sequence[Clip]]  # dataset → its clips


def train_retriever(
    plan: RetrieverPlan,
    manifests: Mapping[str, Manifest],
    features: Features,
    text: Features,
    start: Path | None,
    output: Path,
    checkpoints: Path,
    tracking: Tracking | None = None,
) -> Progress:
    """Trains on the datasets' development splits; the best on validation is saved in ``output``.

    Args:
        manifests: of ``plan.datasets``, as are features and text.
        features: of ``plan.sound.features``, in their order.
        text: of ``plan.text.features``; none where a text tower is trained.
        start: folder of the retriever from whose weights training starts.
        output: a folder, written whole or not at all (see pipeline/trained/folder.py).
        checkpoints, tracking: see :func:`run_job`.

    Raises:
        EarwitnessError: a clip has no features or captions, or see :func:`run_job`.
    """

    def begin(device: torch.device) -> tuple[Task[Pairs], Save]:
        retriever, task = prepare(plan, manifests, features, text, start, device)
        return task, lambda folder, done: retriever.save(folder, curves_csv(done.curves))

    return run_job(
        "retriever",
        plan,
        plan.training,
        begin,
        output=output,
        checkpoints=checkpoints,
        tracking=tracking,
        start=_digest(start),
    )


def prepare(
    plan: RetrieverPlan,
    manifests: Mapping[str, Manifest],
    features: Features,
    text: Features,
    start: Path | None,
    device: torch.device,
) -> tuple[TrainedRetriever, Task[Pairs]]:
    """The untrained retriever, and the task of training it."""
    clips, held_out = mixture_clips(
        {name: manifests[name] for name in plan.datasets}, plan.training
    )
    widths, text_widths = (
        tuple(store.width for store in stores[plan.datasets[0]]) for stores in (features, text)
    )
    if start is None:
        read = new_text(plan, [*clips.values()], text_widths, device)
        retriever = build_retriever(plan, widths, read, device, pretrained=True)
    else:
        retriever = _adapted(plan, start, widths, text_widths, device)
    model = retriever.model
    batches = make_batches(retriever, plan.training, clips, features, text)
    validate = validation(retriever, held_out, features, text)
    return retriever, Task(
        model=model,
        batches=batches,
        loss=model.loss,
        validate=validate,
        score=SCORE,
        before_step=model.before_step,
        after_step=model.after_step,
    )


def mixture_clips(
    manifests: Mapping[str, Manifest], training: OptimisationConfig
) -> tuple[Clips, Clips]:
    """The clips of each dataset for training, and for validation where it has that split.

    A dataset without a validation split, such as MACS, is for training only.

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


def _adapted(
    plan: RetrieverPlan,
    start: Path,
    widths: tuple[int, ...],
    text_widths: tuple[int, ...],
    device: torch.device,
) -> TrainedRetriever:
    """The retriever to be trained, with the weights of the one in ``start``."""
    first = load_retriever(start, "cpu")
    _check_start(plan, first, widths, text_widths)
    text = load_text(plan, start, text_widths, first.text.network, device)
    retriever = build_retriever(plan, widths, text, device, pretrained=False)
    load_weights(retriever.model, weights(first.model), first.plan.name)
    return retriever


def _check_start(
    plan: RetrieverPlan,
    start: TrainedRetriever,
    widths: tuple[int, ...],
    text_widths: tuple[int, ...],
) -> None:
    """Refuses a retriever whose weights do not fit the plan."""
    settings = _network_settings(start.plan, start.sound.widths, start.text.widths)
    if found := _difference(settings, _network_settings(plan, widths, text_widths)):
        what, began, wanted = found
        raise EarwitnessError(
            f"{plan.name}: cannot start from retriever {start.plan.name}, whose {what} is not the "
            f"same ({began}, not {wanted}); take that setting out of its `set`"
        )


def _network_settings(
    plan: BiEncoderPlan, widths: tuple[int, ...], text_widths: tuple[int, ...]
) -> dict[str, Any]:
    spaces = {"width", "project", "shared"}
    sides = plan.model_dump(include={"sound": True, "text": True, "biencoder": spaces})
    return {**sides, "features' width": (widths, text_widths)}


def _difference(one: Any, other: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """The first setting that differs, as a dotted name, and its two values."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return None if one == other else (where, one, other)
    for name in one | other:
        place = f"{where}.{name}".removeprefix(".")
        if found := _difference(one.get(name), other.get(name), place):
            return found
    return None


class Split(NamedTuple):
    """One dataset's validation split, to be embedded."""

    sound: Embeddable  # N clips
    text: Embeddable  # M captions
    clip_of: Tensor  # (M,) int64, each caption's clip


def validation(
    retriever: TrainedRetriever, held_out: Clips, features: Features, text: Features
) -> Callable[[], dict[str, float]]:
    """A function that ranks each dataset's validation split, by whole clips, and averages."""
    splits = []
    for dataset, clips in held_out.items():
        counts = torch.tensor([len(clip.captions) for clip in clips])
        names = [clip.clip_id for clip in clips]
        splits.append(
            Split(
                retriever.sound.stored(features[dataset], names),
                retriever.text.captions([clips], [text[dataset]]),
                torch.arange(len(clips)).repeat_interleave(counts).to(retriever.device),
            )
        )

    def validate() -> dict[str, float]:
        found = []
        for split in splits:
            captions = retriever.embed_text(split.text)
            embedded = retriever.pair(captions, retriever.embed_sound(split.sound))
            similarity = mean_similarity([embedded], slice(None))
            found.append(ranking_scores(similarity, split.clip_of))
        return {
            curve: sum(scores[key] for scores in found) / len(found)
            for curve, key in CURVES.items()
        }

    return validate


def make_batches(
    retriever: TrainedRetriever,
    training: RetrievalTrainingConfig,
    clips: Clips,
    features: Features,
    text: Features,
) -> PairBatches:
    """The training pairs of the datasets' clips, dataset by dataset."""
    device = retriever.device
    names = [[clip.clip_id for clip in of_dataset] for of_dataset in clips.values()]
    counts = [len(clip.captions) for of_dataset in clips.values() for clip in of_dataset]
    stores = [*zip(*(features[dataset] for dataset in clips), strict=True)]  # E × datasets
    return PairBatches(
        [open_mixture(of_feature, names, device) for of_feature in stores],
        [of_feature[0].header.frame_seconds for of_feature in stores],
        torch.tensor(counts),
        retriever.text.captions([*clips.values()], [text[dataset] for dataset in clips]),
        batch=training.batch,
        draw=training.captions,
        seed=retriever.plan.seed,
        crop_seconds=training.crop_seconds,
        device=device,
    )


def _digest(start: Path | None) -> bytes:
    """The digest of the weights from which training starts; the plan does not have it."""
    began = sha256(start / WEIGHTS) if start and (start / WEIGHTS).is_file() else ""
    return began.encode()

"""Finetunes a captioner by rewards, by its plan, on stored features, into a folder.

Self-critical sequence training (SJTU 2.1, 3); its step is in self_critical.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.config.plans import FinetuningPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.corpora.splits import training_clips
from pipeline.errors import EarwitnessError
from pipeline.features.bank import open_banks
from pipeline.features.store import FeatureStore
from pipeline.metrics.rewards import Reward
from pipeline.state_dicts import weights
from pipeline.tensors import Batch
from pipeline.tracking.registry import Tracking
from pipeline.trained.captioner import TrainedCaptioner
from pipeline.training.caption_batches import CaptionBatches
from pipeline.training.checkpoints import Progress
from pipeline.training.cross_entropy import SCORE, validation
from pipeline.training.jobs import Save, run_job
from pipeline.training.loop import Task, curves_csv
from pipeline.training.self_critical import SelfCritical

PLAN = "finetuning.json"


def finetune_captioner(
    plan: FinetuningPlan,
    captioner: TrainedCaptioner,
    manifest: Manifest,
    features: Sequence[FeatureStore],
    output: Path,
    checkpoints: Path,
    tracking: Tracking | None = None,
) -> Progress:
    """Finetunes ``captioner``; the best on the validation split is saved in ``output``.

    The folder is that of any captioner (see pipeline/trained/folder.py): its plan is that of the
    first training under the new name. ``finetuning.json`` beside it is this plan.

    Args:
        captioner: the one that ``plan.captioner`` names; it is changed.
        features: of ``plan.features``, in their order.
        output: a folder, written whole or not at all.
        checkpoints, tracking: see :func:`run_job`.

    Raises:
        EarwitnessError: a reward's weights are not available, or see :func:`check` and
            :func:`run_job`.
    """
    check(plan, captioner, features)
    named = captioner.plan.model_copy(update={"name": plan.name})

    def save(folder: Path, done: Progress) -> None:
        replace(captioner, plan=named).save(folder, curves_csv(done.curves))
        plan.save(folder / PLAN)

    with ThreadPoolExecutor(1, "rewards") as thread:

        def begin(device: torch.device) -> tuple[Task[Batch], Save]:
            task = prepare(plan, captioner, manifest, features, thread, device)
            torch.manual_seed(plan.seed)  # a reward's model may have drawn numbers
            return task, save

        return run_job(
            "captioner",
            plan,
            plan.scst,
            begin,
            output=output,
            checkpoints=checkpoints,
            tracking=tracking,
            start=_digest(captioner),
        )


def check(
    plan: FinetuningPlan, captioner: TrainedCaptioner, features: Sequence[FeatureStore]
) -> None:
    """Refuses other features, and a validation split with clips that were trained on.

    Raises:
        EarwitnessError: there are such features or clips.
    """
    base = captioner.plan
    if base.features != plan.features:
        raise EarwitnessError(
            f"{plan.name}: {plan.captioner} reads {', '.join(base.features)}, the plan names "
            f"{', '.join(plan.features)}; run `dvc repro plan`"
        )
    captioner.check_widths([store.width for store in features], [store.path for store in features])
    share = base.training.validation_share
    if base.dataset == plan.dataset and share != plan.scst.validation_share:
        raise EarwitnessError(
            f"{plan.name}: {plan.captioner} was trained with validation_share {_yaml(share)}; set "
            f"scst.validation_share (now {_yaml(plan.scst.validation_share)}) to the same, or it "
            "is chosen on clips that it was trained on"
        )


def prepare(
    plan: FinetuningPlan,
    captioner: TrainedCaptioner,
    manifest: Manifest,
    features: Sequence[FeatureStore],
    thread: ThreadPoolExecutor,
    device: torch.device,
) -> Task[Batch]:
    """The task of finetuning ``captioner``."""
    captioner.model.to(device)
    clips, held_out = training_clips(manifest, plan.scst)
    validate = validation(captioner, held_out, features, device)
    reward = Reward([clip.captions for clip in clips], plan.scst, str(device))
    step = SelfCritical(plan, captioner, reward, thread, device)
    batches = make_batches(plan, clips, features, device)
    return Task(
        model=captioner.model,
        batches=batches,
        loss=step.loss,
        validate=validate,
        score=SCORE,
        before_step=step.before_step,
        after_step=captioner.model.after_step,
        compiles=False,  # self_critical.py compiles its own pass
    )


def make_batches(
    plan: FinetuningPlan,
    clips: Sequence[Clip],
    features: Sequence[FeatureStore],
    device: torch.device,
) -> CaptionBatches:
    """Each clip once an epoch, by a random view. Captions are not used: each has one empty row."""
    ones = torch.ones(len(clips), dtype=torch.int64)
    return CaptionBatches(
        open_banks(features, [clip.clip_id for clip in clips], device),
        ones,
        torch.zeros(len(clips), 1, dtype=torch.int64),
        ones,
        None,
        batch=plan.scst.batch,
        draw="one",
        seed=plan.seed,
        device=device,
    )


def _digest(captioner: TrainedCaptioner) -> bytes:
    """The digest of the captioner from which training starts."""
    digest = hashlib.sha256(captioner.plan.model_dump_json().encode())
    digest.update(captioner.tokenizer.digest().encode())
    for name, tensor in weights(captioner.model).items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.digest()


def _yaml(value: float | None) -> str:
    return "null" if value is None else f"{value:g}"

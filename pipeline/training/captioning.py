"""Trains one captioner by cross-entropy, from its plan and its stored features to a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pipeline.config import Decoding
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.decoding.predict import bank_batches, predict
from pipeline.errors import EarwitnessError
from pipeline.features.bank import FeatureBank, free_budgets
from pipeline.features.store import FeatureStore
from pipeline.files import replacing_folder
from pipeline.metrics.cider_d import CiderD
from pipeline.models import build_captioner
from pipeline.models.bart import Bart
from pipeline.plans import CaptionerPlan
from pipeline.text.ptb import tokenize
from pipeline.text.subword import Tokenizer, pretrained, train_subword
from pipeline.training.batches import CaptionBatches, pad_tokens
from pipeline.training.bundle import Captioner
from pipeline.training.checkpoints import Checkpoints, Progress
from pipeline.training.device import deterministic, resolve_device
from pipeline.training.lock import exclusive
from pipeline.training.loop import Task, curves_csv, fit
from pipeline.training.optimizers import adamw
from pipeline.training.schedules import cyclic_cosine

SCORE = "validation_cider_d"


def train_captioner(
    plan: CaptionerPlan,
    manifest: Manifest,
    features: Sequence[FeatureStore],
    text: FeatureStore | None,
    output: Path,
    checkpoints: Path,
) -> Progress:
    """Trains on the development split; the best on the validation split goes to ``output``.

    Killed and called again it goes on from its last checkpoint, and on a CPU with the same number
    of threads ends with the same bytes.

    Args:
        features: of ``plan.features``, in their order. text: of ``plan.text``.
        output: a folder, there whole or not at all (see pipeline/training/bundle.py).
        checkpoints: folder of all jobs' checkpoints.

    Raises:
        EarwitnessError: what the user can mend, such as a clip without features or captions.
    """
    job = f"captioner-{plan.name}"
    where = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:8]
    digest = hashlib.sha256(plan.model_dump_json().encode()).hexdigest()[:16]
    device = resolve_device(plan.training.device)
    with (
        exclusive(checkpoints / f"{job}-to-{where}.lock"),
        Checkpoints(checkpoints, job, digest) as saved,
        deterministic(device),
    ):
        torch.manual_seed(plan.training.seed)
        captioner, task = prepare(plan, manifest, features, text, device)
        schedule = cyclic_cosine(plan.training, task.batches.steps)
        optimizer = adamw(task.model, plan.training)
        progress = fit(task, optimizer, schedule, plan.training, saved, plan.name)
        with replacing_folder(output) as folder:
            captioner.save(folder, curves_csv(progress.curves))
        saved.remove()
    return progress


def prepare(
    plan: CaptionerPlan,
    manifest: Manifest,
    features: Sequence[FeatureStore],
    text: FeatureStore | None,
    device: torch.device,
) -> tuple[Captioner, Task]:
    """The untrained captioner, and the run that trains it."""
    clips, held_out = manifest.split("development"), manifest.split("validation")
    if bare := next((clip for clip in (*clips, *held_out) if not clip.captions), None):
        raise EarwitnessError(
            f"{manifest.dataset}: {bare.clip_id!r} of {bare.split} has no caption; add one"
        )
    tokenizer = make_tokenizer(plan, [caption for clip in clips for caption in clip.captions])
    widths = tuple(store.width for store in features)
    text_width = text.width if text is not None else None
    bart = Bart.from_settings(
        plan.bart,
        tokenizer.size,
        input_width=plan.input.width,
        begin=tokenizer.begin,
        pad=tokenizer.pad,
        end=tokenizer.end,
    )
    model = build_captioner(plan, widths, text_width, bart).to(device)
    captioner = Captioner(plan, model, tokenizer, widths)
    batches = make_batches(plan, clips, features, text, tokenizer, device)
    validate = validation(captioner, held_out, features, device)
    return captioner, Task(model, batches, model.loss, model.after_step, validate, SCORE)


def make_tokenizer(plan: CaptionerPlan, captions: Sequence[str]) -> Tokenizer:
    """The pretrained BART's own, or one trained on the captions."""
    if plan.bart.pretrained is not None:
        return pretrained(plan.bart.pretrained)
    return train_subword(captions, plan.bart.vocabulary)


def make_batches(
    plan: CaptionerPlan,
    clips: Sequence[Clip],
    features: Sequence[FeatureStore],
    text: FeatureStore | None,
    tokenizer: Tokenizer,
    device: torch.device,
) -> CaptionBatches:
    """The training pairs of ``clips``."""
    captions = [caption for clip in clips for caption in clip.captions]
    rows = tokenizer.encode(captions, plan.bart.max_tokens)
    tokens, lengths = pad_tokens(rows, tokenizer.pad)
    names = [f"{clip.clip_id}#{k}" for clip in clips for k in range(len(clip.captions))]
    return CaptionBatches(
        open_banks(features, [clip.clip_id for clip in clips], device),
        torch.tensor([len(clip.captions) for clip in clips]),
        tokens,
        lengths,
        None if text is None else open_banks([text], names, device)[0],
        batch=plan.training.batch,
        draw=plan.training.captions,
        seed=plan.training.seed,
        device=device,
    )


def open_banks(
    stores: Sequence[FeatureStore], ids: Sequence[str], device: torch.device
) -> list[FeatureBank]:
    """A bank for each store; one encoder that stands three times is held once."""
    held: dict[Path, FeatureBank] = {}
    for store in stores:
        if store.path not in held:
            on_device, in_ram = free_budgets(device)
            held[store.path] = FeatureBank(
                store, device, device_bytes=on_device, ram_bytes=in_ram, ids=ids
            )
    return [held[store.path] for store in stores]


def validation(
    captioner: Captioner,
    clips: Sequence[Clip],
    features: Sequence[FeatureStore],
    device: torch.device,
) -> Callable[[], float]:
    """A function that captions ``clips`` greedily and scores them by CIDEr-D, in process."""
    banks = open_banks(features, [clip.clip_id for clip in clips], device)
    scorer = CiderD([tokenize(clip.captions) for clip in clips])
    decoding = Decoding(
        method="greedy", beams=1, min_length=1, max_length=captioner.plan.bart.max_tokens - 2
    )

    def validate() -> float:
        batches = predict(captioner, bank_batches(banks, decoding.batch), decoding)
        texts = [caption.text for batch in batches for caption in batch]
        return scorer.score(tokenize(texts)).corpus

    return validate

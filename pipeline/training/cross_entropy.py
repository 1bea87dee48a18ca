"""Trains one captioner by cross-entropy, from its plan and its stored features to a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pipeline.config.evaluation import DecodingConfig
from pipeline.config.plans import CaptionerPlan
from pipeline.config.tokens import TokensConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.corpora.splits import training_clips
from pipeline.decoding.predict import bank_batches, predict
from pipeline.device import resolve_device
from pipeline.features.bank import open_banks
from pipeline.features.store import FeatureStore
from pipeline.files import replacing_folder
from pipeline.metrics.cider_d import CiderD
from pipeline.metrics.diversity import diversity
from pipeline.models.captioners.base import Inputs
from pipeline.tensors import TokenIds, pad_tokens
from pipeline.text.ptb import tokenize
from pipeline.text.subword import pretrained, train_subword
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import Vocabulary
from pipeline.trained.captioner import TrainedCaptioner, planned_captioner
from pipeline.training.caption_batches import CaptionBatches
from pipeline.training.checkpoints import Progress
from pipeline.training.jobs import training_job
from pipeline.training.loop import Task, curves_csv, fit
from pipeline.training.optimizers import build_optimizer
from pipeline.training.schedules import build_schedule

SCORE = "validation_cider_d"


def train_captioner(
    plan: CaptionerPlan,
    manifest: Manifest,
    features: Sequence[FeatureStore],
    text: FeatureStore | None,
    output: Path,
    checkpoints: Path,
    heard: Manifest | None = None,
) -> Progress:
    """Trains on the development split; the best on the validation split goes to ``output``.

    Killed and called again it goes on from its last checkpoint, and on a CPU with the same number
    of threads ends with the same bytes.

    Args:
        features: of ``plan.features``, in their order, where ``plan.model.reads.sound``; of the
            dataset ``heard`` where that is another.
        text: of ``plan.text``, where the plan names some.
        output: a folder, there whole or not at all (see pipeline/trained/captioner.py).
        checkpoints: folder of all jobs' checkpoints.
        heard: the dataset ``plan.sound_dataset``, where the plan names one.

    Raises:
        EarwitnessError: what the user can mend, such as a clip without features or captions.
    """
    device = resolve_device(plan.training.device)
    identity = plan.model_dump_json().encode()
    with training_job(f"captioner-{plan.name}", identity, output, checkpoints, device) as saved:
        torch.manual_seed(plan.training.seed)
        captioner, task = prepare(plan, manifest, features, text, device, heard)
        schedule = build_schedule(plan.training, task.batches.steps)
        optimizer = build_optimizer(task.model, plan.training)
        progress = fit(task, optimizer, schedule, plan.training, saved, plan.name)
        with replacing_folder(output) as folder:
            captioner.save(folder, curves_csv(progress.curves))
    return progress


def prepare(
    plan: CaptionerPlan,
    manifest: Manifest,
    features: Sequence[FeatureStore],
    text: FeatureStore | None,
    device: torch.device,
    heard: Manifest | None = None,
) -> tuple[TrainedCaptioner, Task]:
    """The untrained captioner, and the run that trains it."""
    clips, held_out = training_clips(manifest, plan.training)
    sounding = training_clips(heard, plan.training) if heard else (clips, held_out)
    reads, texts = plan.model.reads, [text] if text is not None else []
    captions = [caption for clip in clips for caption in clip.captions]
    tokenizer = make_tokenizer(plan.model.tokens, captions)
    widths = tuple(store.width for store in (features if reads.sound else texts))
    text_width = text.width if text is not None else None
    inputs = Inputs(plan.features, widths, plan.text, text_width)
    tokens = TokenIds(tokenizer.size, tokenizer.begin, tokenizer.pad, tokenizer.end)
    model = planned_captioner(plan, inputs, tokens).to(device)
    captioner = TrainedCaptioner(plan, model, tokenizer, widths)
    paired = features if "batches" in reads.sound else []
    told = text if "batches" in reads.text else None
    batches = make_batches(plan, clips, paired, told, tokenizer, device)
    heard_ids = [clip.clip_id for clip in sounding[0]]
    calibrates = "calibration" in reads.sound
    sound = open_banks(features, heard_ids, device)[0] if calibrates else None
    model.calibrate(sound, batches.text, batches.counts)
    shown = (held_out, texts) if "validation" in reads.text else (sounding[1], features)
    validate = validation(captioner, *shown, device)
    hooks = model.before_step, model.after_step
    return captioner, Task(model, batches, model.loss, *hooks, validate, SCORE)


def make_tokenizer(tokens: TokensConfig, captions: Sequence[str]) -> Tokenizer:
    """Words, or subwords: a pretrained model's own, or those trained on the captions."""
    if tokens.kind == "words":
        return Vocabulary.train(captions, tokens.min_count)
    if tokens.pretrained is not None:
        return pretrained(tokens.pretrained, tokens.section)
    return train_subword(captions, tokens.vocabulary)


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
    rows = tokenizer.encode(captions, plan.model.tokens.longest)
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


def validation(
    captioner: TrainedCaptioner,
    clips: Sequence[Clip],
    features: Sequence[FeatureStore],
    device: torch.device,
) -> Callable[[], dict[str, float]]:
    """A function that captions ``clips`` greedily and scores them in process."""
    banks = open_banks(features, [clip.clip_id for clip in clips], device)
    scorer = CiderD([tokenize(clip.captions) for clip in clips])
    longest = captioner.plan.model.tokens.longest - 2
    decoding = DecodingConfig(method="greedy", beams=1, min_length=1, max_length=longest)

    def validate() -> dict[str, float]:
        batches = predict(captioner, bank_batches(banks, decoding.batch), decoding)
        texts = tokenize([caption.text for batch in batches for caption in batch])
        repetition = diversity(texts).repetition.corpus
        return {SCORE: scorer.score(texts).corpus, "validation_repetition": repetition}

    return validate
